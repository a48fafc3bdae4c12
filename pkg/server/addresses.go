package server

import (
	"context"
	"net/netip"
	"slices"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/hostaddr"
	"github.com/skiff-k8s/skiff/pkg/pki"
)

// followAddresses makes the component that has certificates issued anew when
// the host gets other addresses, so that clients can reach it at them.
func (p *parts) followAddresses(renewer *pki.Renewer) component.Component {
	log := p.logs.For("addresses")
	return component.Func("addresses", func(ctx context.Context, ready func()) error {
		changes, err := p.host.WatchAddresses(ctx, log)
		if err != nil {
			return err
		}
		ready()
		for a := range changes {
			renewer.SetAddresses(p.certified(a))
			if !slices.Equal(a.Node, p.host.Addresses.Node) {
				log.WithField("addresses", a.Node).Warn("The node's address has changed: the API's certificate follows; restart Skiff to have the node and its pods' network follow too")
			}
		}
		return nil
	})
}

// certified are the addresses that certificates hold on a host with addresses a.
func (p *parts) certified(a hostaddr.Addresses) pki.Addresses {
	node := slices.Concat(a.Node, p.cfg.Node.ExternalIPs)
	return pki.Addresses{Server: slices.Concat(node, a.All, []netip.Addr{p.advertised()}), Node: node}
}
