package agent

import (
	"context"
	"net/netip"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/hostaddr"
	"github.com/skiff-k8s/skiff/pkg/network"
)

// resolvers makes the component that tells DNS of the host's name servers when
// they change, as when a laptop comes to another network.
func (n Node) resolvers() (component.Component, <-chan []netip.AddrPort) {
	upstreams := make(chan []netip.AddrPort)
	log := n.Logs.For("resolvers")
	return component.Func("resolvers", func(ctx context.Context, ready func()) error {
		changes, err := hostaddr.WatchResolvers(ctx, n.Host.resolving, n.Host.Resolvers, log)
		if err != nil {
			return err
		}
		ready()
		for r := range changes {
			log.WithField("nameservers", r.Nameservers).Info("The host's name servers have changed")
			select {
			case upstreams <- r.Nameservers:
			case <-ctx.Done():
			}
		}
		return nil
	}), upstreams
}

// dnsAddresses makes the component that tells DNS the node's own addresses in
// the pod network once they are known, which may be never; they do not change
// after that. Nothing waits for it.
func dnsAddresses(net *network.Component) (component.Component, <-chan []netip.Addr) {
	addresses := make(chan []netip.Addr, 1)
	return component.Func("dns-addresses", func(ctx context.Context, ready func()) error {
		ready()
		if gateways, err := net.Gateways(ctx); err == nil {
			addresses <- gateways
		}
		<-ctx.Done()
		return nil
	}), addresses
}
