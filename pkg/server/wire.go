package server

import (
	"fmt"

	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/encryption"
	"github.com/skiff-k8s/skiff/pkg/joinapi"
	"github.com/skiff-k8s/skiff/pkg/kube/apiserver"
	"github.com/skiff-k8s/skiff/pkg/kube/globals"
	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
	"github.com/skiff-k8s/skiff/pkg/kube/kubelet"
	"github.com/skiff-k8s/skiff/pkg/kube/rbac"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/tunnel"
)

// wire is the whole server as a list: what there is, and what waits for what.
func wire(g *component.Group, status component.Handle, api *inproc.Switchboard, p *parts, kept *snapshot.Keeper) error {
	log := p.logs.For
	renewer := pki.NewRenewer(p.pki, p.certs, log("certificates"))
	g.Add(renewer)
	g.Add(p.followAddresses(renewer))
	store, err := p.datastore()
	if err != nil {
		return err
	}
	if err := globals.Expose(store.metrics...); err != nil {
		return err
	}
	p.client = store.client
	stored := g.Add(store.Component, status)
	if store.shared { // with other keys than the other servers have, nothing may be served
		stored = g.Add(p.keepBootstrap(store), stored)
	}
	tunnels, err := tunnel.NewServer(p.tunnel(), api.Config(tunnelling()), log("tunnel"))
	if err != nil {
		return err
	}
	var join *joinapi.API
	secrets, err := encryption.New(p.secrets(store, func() []string { return join.Servers() }), api.Config(encrypting()), log("secrets-encryption"))
	if err != nil {
		return err
	}
	certificates := certificateAPI{renewer, p.replacedCAs(store, func() *joinapi.API { return join })}
	join, err = joinapi.New(p.join(store, tunnels, secrets, certificates), api.Config(joining()), log("join"))
	if err != nil {
		return err
	}
	p.takeKeysOver = p.taking(renewer, secrets, join)
	server := g.Add(apiserver.New(p.apiserver(store, join, tunnels), api, log("apiserver")), stored)
	if store.settle != nil {
		g.Add(durability(store), server)
	}
	if !store.shared { // nobody waits for it: after the API is there
		g.Add(p.keepBootstrap(store), server)
	}
	policy := g.Add(rbac.New(p.policy(), api.Config(superuser()), log("rbac")), server)
	g.Add(join, policy)
	g.Add(tunnels, policy)
	g.Add(secrets, policy)
	if store.shared {
		g.Add(p.followKeys(store), policy)
	}
	if err := p.addSnapshots(g, policy, api, kept); err != nil {
		return err
	}
	if err := p.addControllers(g, api, store, server, policy); err != nil {
		return err
	}
	if p.cfg.DisableAgent {
		return nil
	}

	node := p.node(store, agent.Clients{
		Kubelet: api.Config(kubeletOf(p.cfg.Node.Name)),
		Proxy:   api.Config(kubeProxy()),
		Node:    api.Config(nodeAgent(p.cfg.Node.Name)),
	})
	ready, err := agent.Add(g, node, agent.After{API: server, Policy: policy})
	if err != nil {
		return fmt.Errorf("preparing the node part: %w", err)
	}
	g.Add(kubelet.NewRegistration(node.Registration(controlPlaneLabels()), api.Config(superuser()), log("node-registration")), ready)
	return nil
}
