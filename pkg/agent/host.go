package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/hostaddr"
	"github.com/skiff-k8s/skiff/pkg/hostcheck"
	"github.com/skiff-k8s/skiff/pkg/kube/flags"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Host is what was found out about the machine.
type Host struct {
	hostcheck.Facts
	// Addresses are the node's.
	Addresses hostaddr.Addresses
	// Resolvers are the name servers for names outside the cluster.
	Resolvers hostaddr.Resolvers

	addressing hostaddr.Config
	resolving  hostaddr.ResolverConfig
}

// Look says what a host is to be used for.
type Look struct {
	Layout       layout.Layout
	Node         config.Node
	Network      config.Network
	DisableAgent bool // no node part: little is needed of the host
	DisableProxy bool
	Toward       []netip.Addr // servers, see hostaddr.Config
}

// Inspect finds out about the machine, waits for it to have an address, and
// prepares it. The error lists everything that is missing, with the command
// that mends it.
func Inspect(ctx context.Context, look Look, log *logrus.Entry) (Host, error) {
	h := Host{
		addressing: hostaddr.Config{NodeIPs: look.Node.IPs, Families: hostaddr.FamiliesOf(look.Network.ClusterCIDRs), Toward: look.Toward},
		resolving: hostaddr.ResolverConfig{
			Layout: look.Layout,
			Path:   look.Node.ResolvConf,
			Own:    append([]netip.Addr{look.Network.LinkLocalDNS}, look.Network.ClusterDNS...),
		},
	}
	var err error
	if h.Facts, err = hostcheck.Inspect(ctx, look.requirements()); err != nil {
		return Host{}, err
	}
	if h.Facts, err = hostcheck.Prepare(ctx, h.Facts, log); err != nil {
		return Host{}, err
	}
	for _, w := range h.Warnings {
		log.Warn(w)
	}
	if h.Addresses, err = hostaddr.Await(ctx, h.addressing, func(err error) {
		log.Warn("Waiting for the network: ", err)
	}); err != nil {
		return Host{}, fmt.Errorf("choosing the node's address: %w", err)
	}
	if look.DisableAgent {
		return h, nil
	}
	if h.Resolvers, err = hostaddr.FindResolvers(h.resolving); err != nil {
		return Host{}, err
	}
	if h.Resolvers.Warning != "" {
		log.Warn(h.Resolvers.Warning)
	}
	return h, nil
}

// Identify gives the node its name for good, with --with-node-id the one that
// ends in this machine's identifier.
func Identify(node config.Node, l layout.Layout) (config.Node, error) {
	if !node.WithNodeID {
		return node, nil
	}
	name, err := hostaddr.NodeName(node.Name, l.NodeID())
	if err != nil {
		return config.Node{}, err
	}
	node.Name = name
	return node, nil
}

// WatchAddresses sends the node's addresses whenever they change. The channel
// is closed when ctx ends.
func (h Host) WatchAddresses(ctx context.Context, log *logrus.Entry) (<-chan hostaddr.Addresses, error) {
	changes, err := hostaddr.Watch(ctx, h.addressing, h.Addresses, log)
	if err != nil {
		return nil, fmt.Errorf("watching the host's addresses: %w", err)
	}
	return changes, nil
}

func (l Look) requirements() hostcheck.Options {
	ipv6 := false
	for _, p := range l.Network.ClusterCIDRs {
		ipv6 = ipv6 || p.Addr().Is6()
	}
	return hostcheck.Options{
		DataDir:               l.Layout.Data,
		Node:                  !l.DisableAgent,
		CgroupRoot:            l.Node.CgroupRoot,
		IPv6:                  ipv6,
		FlannelBackend:        l.Network.FlannelBackend,
		ProxyMode:             flags.Last(l.Node.Proxy.Extra, "proxy-mode"),
		NoProxy:               l.DisableProxy,
		Overlay:               l.Node.Snapshotter == "overlayfs" && l.Node.ContainerRuntimeEndpoint == "",
		ProtectKernelDefaults: l.Node.ProtectKernelDefaults,
	}
}
