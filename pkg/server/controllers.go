package server

import (
	"github.com/google/uuid"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/dns"
	"github.com/skiff-k8s/skiff/pkg/election"
	"github.com/skiff-k8s/skiff/pkg/kube/cloudcontroller"
	"github.com/skiff-k8s/skiff/pkg/kube/controllermanager"
	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
	"github.com/skiff-k8s/skiff/pkg/kube/scheduler"
)

// client makes a connection to the API for an identity. With several servers it
// ends when this one does not lead any more.
type client func(user.Info) *rest.Config

// controller is a component that works on one server at a time.
type controller struct {
	name  string
	make  func(client) (component.Component, error)
	after component.Handle
}

// controllersOf are all of them. server is ready when the API is, policy when
// our own identities may do their work.
func (p *parts) controllersOf(store datastore, server, policy component.Handle) []controller {
	log := p.logs.For
	all := []controller{{"controller-manager", func(c client) (component.Component, error) {
		return controllermanager.New(p.controllers(), controllermanager.ClientFor(c), log("controller-manager")), nil
	}, server}}
	if !p.cfg.DisableScheduler {
		all = append(all, controller{"scheduler", func(c client) (component.Component, error) {
			return scheduler.New(p.scheduler(), c(schedulerIdentity()), log("scheduler")), nil
		}, server})
	}
	if !p.cfg.DisableCloudController {
		all = append(all, controller{"cloud-controller", func(c client) (component.Component, error) {
			return cloudcontroller.New(c(cloudController()), log("cloud-controller")), nil
		}, policy})
	}
	if !p.cfg.Disabled(disableDNS) {
		all = append(all, controller{"kube-dns", func(c client) (component.Component, error) {
			return dns.NewService(p.kubeDNS(), c(kubeDNS()), log("kube-dns")), nil
		}, policy})
	}
	if store.members != nil {
		all = append(all, controller{"etcd-members", func(c client) (component.Component, error) {
			return etcd.NewKeeper(store.members, c(membersKeeper()), log("etcd-members"))
		}, policy})
	}
	return all
}

// addControllers adds the controllers: at once on the only server, else on the
// one that leads.
func (p *parts) addControllers(g *component.Group, api *inproc.Switchboard, store datastore, server, policy component.Handle) error {
	all := p.controllersOf(store, server, policy)
	if !store.shared {
		for _, c := range all {
			made, err := c.make(api.Config)
			if err != nil {
				return err
			}
			g.Add(made, c.after)
		}
		return nil
	}
	elector, err := election.New(p.cfg.Node.Name+"_"+uuid.NewString(), api.Config(superuser()), p.logs.For("leader"))
	if err != nil {
		return err
	}
	elected := g.Add(elector, server)
	for _, c := range all {
		g.Add(elector.Led(c.name, func(fence election.Fence) (component.Component, error) {
			return c.make(func(u user.Info) *rest.Config { return fence(api.Config(u)) })
		}, p.logs.For(c.name)), elected, c.after)
	}
	return nil
}
