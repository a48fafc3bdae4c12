// Package agent wires the node part: container runtime, kubelet, service
// proxy, pod network and DNS. A server embeds it beside its control plane. Only
// commands and pkg/server import it.
package agent

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/dns"
	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/imageimport"
	"github.com/skiff-k8s/skiff/pkg/kube/kubelet"
	"github.com/skiff-k8s/skiff/pkg/kube/proxy"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/network"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/registries"
)

// Node is everything that the node part is made of. It never changes.
type Node struct {
	Config  config.Node
	Network config.Network
	Layout  layout.Layout
	Host    Host
	Helpers embedded.Dir
	Files   pki.NodeFiles
	Clients Clients
	Logs    *logging.Logs

	Pprof                  bool
	DisableProxy           bool
	DisableDNS             bool
	DisableCloudController bool
	// Alone says that the only API server is in this process.
	Alone bool
}

// Clients are the identities under which the node part uses the API.
type Clients struct {
	Kubelet *rest.Config // system:node:NAME
	Proxy   *rest.Config // system:kube-proxy
	Node    *rest.Config // skiff:node:NAME: pod network and DNS
}

// ReadyComponent is the one that is ready when the Node has the condition Ready.
const ReadyComponent = kubelet.ReadyComponent

// After is what parts of the node wait for. Everything else starts at once, so
// that the node comes up while the API server does.
type After struct {
	API    component.Handle // the API answers
	Policy component.Handle // the identities of Clients have their roles
}

// Add puts the node part into a group. The handle is ready when the Node has
// the condition Ready.
func Add(g *component.Group, n Node, after After) (ready component.Handle, err error) {
	kc, err := n.kubelet()
	if err != nil {
		return component.Handle{}, err
	}
	client, err := kubernetes.NewForConfig(n.Clients.Node)
	if err != nil {
		return component.Handle{}, fmt.Errorf("the node's client: %w", err)
	}

	var images, runtime component.Handle
	if n.Config.ContainerRuntimeEndpoint == "" {
		hosts, err := registries.New(n.registries(), n.Logs.For("registries"))
		if err != nil {
			return component.Handle{}, err
		}
		ctrd := containerd.New(n.containerd(), n.Logs.For("containerd"))
		runtime = g.Add(ctrd, g.Add(hosts))
		images = g.Add(imageimport.New(n.images(), importRuntime(ctrd), n.Logs.For("images")), runtime)
	}
	registered := g.Add(kubelet.New(kc, n.Clients.Kubelet, n.Logs.For("kubelet")), runtime, images)
	net := network.New(n.network(), client, n.Logs.For("network"))
	g.Add(net, after.API, after.Policy)
	if !n.DisableProxy {
		g.Add(proxy.New(n.proxy(), n.Clients.Proxy, n.Logs.For("kube-proxy")), after.API)
	}
	if !n.DisableDNS {
		resolvers, upstreams := n.resolvers()
		g.Add(resolvers)
		addresses, podAddrs := dnsAddresses(net)
		g.Add(addresses)
		g.Add(dns.New(n.dns(), dns.Changes{Upstreams: upstreams, PodAddrs: podAddrs}, n.Clients.Node, n.Logs.For("dns")))
	}
	return g.Add(kubelet.NewReadiness(n.Config.Name, n.Clients.Kubelet), registered), nil
}

func importRuntime(c *containerd.Component) func(context.Context) (imageimport.Runtime, error) {
	return func(ctx context.Context) (imageimport.Runtime, error) {
		s, err := c.Services(ctx)
		if err != nil {
			return imageimport.Runtime{}, err
		}
		return imageimport.Runtime{Client: s.Client, RefreshImage: s.RefreshImage}, nil
	}
}
