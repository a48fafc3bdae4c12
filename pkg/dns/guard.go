package dns

import (
	"context"
	"errors"
	"net/netip"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	mdns "github.com/miekg/dns"
)

// setupGuard puts a guard in front of every server block, the user's too: they
// listen on the same sockets.
func setupGuard(c *caddy.Controller) error {
	owner := ownerOf(c)
	if owner == nil {
		return plugin.Error(directiveGuard, errors.New("no server of Skiff's"))
	}
	dnsserver.AddPluginToAllServerBlocks(c, func(next plugin.Handler) plugin.Handler {
		return &guard{next: next, server: owner}
	})
	return nil
}

// guard keeps the address in the pod network from being an open resolver for
// whoever can route to it: only pods and the node itself may ask there. The
// link-local address needs none of that, nobody routes to it.
type guard struct {
	next   plugin.Handler
	server *server
}

// Name implements plugin.Handler.
func (g *guard) Name() string { return directiveGuard }

// ServeDNS implements plugin.Handler.
func (g *guard) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	if !g.allowed(hostOf(w.LocalAddr().String()), hostOf(w.RemoteAddr().String())) {
		return mdns.RcodeRefused, nil
	}
	return plugin.NextOrFailure(g.Name(), g.next, ctx, w, r)
}

func (g *guard) allowed(local, remote netip.Addr) bool {
	for _, own := range g.server.cfg.Listen {
		if own == local {
			return true
		}
	}
	for _, prefix := range g.server.cfg.ClusterCIDRs {
		if prefix.Contains(remote) {
			return true
		}
	}
	return remote == local || g.server.addresses.isLocal(remote)
}

// hostOf is the address of "host:port", the zero Addr if there is none.
func hostOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// setupUnresolved adds the last plugin of the main server block.
func setupUnresolved(c *caddy.Controller) error {
	dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return unresolved{} })
	return nil
}

// unresolved answers what nobody answered, because the node has no name server
// to ask: at once and with a temporary failure, so that clients neither hang
// nor remember that the name does not exist.
type unresolved struct{}

// Name implements plugin.Handler.
func (unresolved) Name() string { return directiveUnresolved }

// ServeDNS implements plugin.Handler.
func (unresolved) ServeDNS(context.Context, mdns.ResponseWriter, *mdns.Msg) (int, error) {
	return mdns.RcodeServerFailure, nil
}
