package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"

	"k8s.io/client-go/kubernetes"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/kube/flags"
	"github.com/skiff-k8s/skiff/pkg/tunnel"
)

// addTunnel adds the way by which servers reach this node, unless servers
// connect to nodes directly. follow is to be told of the servers that there are.
func (m *member) addTunnel(g *component.Group, node Node) (follow func([]string), err error) {
	mode := tunnel.Mode(node.Network.EgressSelector)
	if mode == tunnel.ModeDisabled || mode == "" { // an older server has none
		return func([]string) {}, nil
	}
	client, err := kubernetes.NewForConfig(node.Clients.Kubelet)
	if err != nil {
		return nil, fmt.Errorf("the tunnel's client: %w", err)
	}
	agent := tunnel.NewAgent(tunnel.AgentConfig{
		ServerCA: node.Files.ServerCA,
		Cert:     node.Files.NodeAgent.Cert,
		Key:      node.Files.NodeAgent.Key,
		Fallback: m.server(),
		Targets: tunnel.Targets{
			Mode:         mode,
			Kubelet:      kubeletAddress(node.Config.Kubelet.Extra),
			Node:         node.Config.Name,
			Client:       client,
			ClusterCIDRs: node.Network.ClusterCIDRs,
			ServiceCIDRs: node.Network.ServiceCIDRs,
		},
	}, node.Logs.For("tunnel"))
	g.Add(agent)
	return agent.SetServers, nil
}

// kubeletAddress is where the kubelet listens, as seen from this machine.
func kubeletAddress(extra []string) netip.AddrPort {
	const defaultPort = 10250
	addr, err := netip.ParseAddr(flags.Last(extra, "address"))
	if err != nil || addr.IsUnspecified() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	port, _ := strconv.ParseUint(flags.Last(extra, "port"), 10, 16) // the kubelet tells what is wrong with it
	return netip.AddrPortFrom(addr, cmp.Or(uint16(port), defaultPort))
}
