package agent

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/pkg/apilb"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/hostaddr"
	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/kube/kubelet"
)

// apiComponent is ready when a server has answered.
const apiComponent = "api"

// wire is the whole agent as a list: what there is, and what waits for what.
func (m *member) wire(g *component.Group, _ component.Handle) error {
	log := m.node.Logs.For
	balancer := apilb.New(m.balancer(), log("apilb"))
	g.Add(balancer)
	node, err := m.clients(balancer)
	if err != nil {
		return err
	}
	tunnels, err := m.addTunnel(g, node)
	if err != nil {
		return err
	}
	servers := func(list []string) {
		balancer.SetServers(list)
		tunnels(list)
	}
	g.Add(join.NewFollower(m.joining(m.node.Host.Addresses), m.cluster, join.Changes{Servers: servers}, log("membership")))

	api := g.Add(kubelet.NewAPI(apiComponent, m.cfg.Node.Name, node.Clients.Kubelet))
	ready, err := Add(g, node, After{API: api, Policy: api})
	if err != nil {
		return fmt.Errorf("preparing the node part: %w", err)
	}
	g.Add(kubelet.NewRegistration(node.Registration(nil), node.Clients.Kubelet, log("node-registration")), ready)
	return nil
}

func (m *member) balancer() apilb.Config {
	return apilb.Config{
		Listen: m.local(),
		File:   m.cfg.Layout.AgentFile("servers.json"),
		Seed:   []string{m.server()},
	}
}

// server is the host and port of the one by which the agent found the cluster.
func (m *member) server() string {
	u, _ := url.Parse(m.cfg.Join.Server) // was validated
	return u.Host
}

// local is where other programs of this machine find the API; the zero value
// without a port for them.
func (m *member) local() netip.AddrPort {
	if m.cfg.LoadBalancer.Disable {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(m.cfg.LoadBalancer.Port))
}

// joining is what the node is called by and where it is reached.
func (m *member) joining(host hostaddr.Addresses) join.Config {
	// Not all that the host has: other hosts may have the same for networks of
	// their own, and a server refuses what is somebody else's.
	addresses := slices.Concat(host.Node, m.cfg.Node.ExternalIPs)
	slices.SortFunc(addresses, netip.Addr.Compare)
	server := m.cfg.Join.Server
	if at := m.local(); at.IsValid() {
		server = "https://" + at.String()
	}
	return join.Config{
		Servers:   []string{m.cfg.Join.Server},
		Token:     m.token,
		Layout:    m.cfg.Layout,
		NodeName:  m.cfg.Node.Name,
		Names:     slices.Concat(m.cfg.Node.InternalDNS, m.cfg.Node.ExternalDNS),
		Addresses: slices.Compact(addresses),
		APIServer: server,
	}
}

// network is the cluster's, with what differs from node to node.
func (m *member) network() config.Network {
	c := m.cluster
	return config.Network{
		ClusterCIDRs:     c.ClusterCIDRs,
		ServiceCIDRs:     c.ServiceCIDRs,
		NodePortRange:    c.NodePortRange,
		ClusterDNS:       c.ClusterDNS,
		ClusterDomain:    c.ClusterDomain,
		LinkLocalDNS:     c.LinkLocalDNS,
		FlannelBackend:   c.FlannelBackend,
		FlannelIPv6Masq:  c.FlannelIPv6Masq,
		FlannelExternal:  c.FlannelExternal,
		EgressSelector:   c.EgressSelector,
		DisableNetPolicy: c.DisableNetworkPolicy,
		FlannelIface:     m.cfg.FlannelIface,
		FlannelConf:      m.cfg.FlannelConf,
		FlannelCNIConf:   m.cfg.FlannelCNIConf,
	}
}

// clients completes the node part with its ways to the API: certificates of
// the node's, and connections that the load balancer makes, without a port in
// between.
func (m *member) clients(balancer *apilb.Balancer) (Node, error) {
	node, files := m.node, m.node.Files
	for _, c := range []struct {
		kubeconfig string
		to         **rest.Config
	}{{files.KubeletConfig, &node.Clients.Kubelet}, {files.ProxyConfig, &node.Clients.Proxy}, {files.NodeAgentConfig, &node.Clients.Node}} {
		cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
		if err != nil {
			return Node{}, fmt.Errorf("reading %s: %w", c.kubeconfig, err)
		}
		cfg.Dial = balancer.DialContext
		cfg.QPS = -1 // priority and fairness of the servers shares their capacity out
		cfg.ContentType = "application/vnd.kubernetes.protobuf"
		cfg.AcceptContentTypes = cfg.ContentType + ",application/json"
		*c.to = cfg
	}
	return node, nil
}
