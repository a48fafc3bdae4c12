package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// routeServices gives the host a way to the addresses of Services. The service
// proxy changes them before a packet leaves, but the kernel first wants a route,
// and a host without a default route has none. Programs of the host go on being
// seen under the node's address, as with a default route.
func (c *Component) routeServices() {
	link, err := netlink.LinkByName(bridgeName)
	if err != nil {
		c.log.WithError(err).Warn("The host's own programs may not reach Services")
		return
	}
	for _, cidr := range c.cfg.ServiceCIDRs {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(cidr), Scope: netlink.SCOPE_LINK}
		if source, ok := ofFamily(c.cfg.NodeIPs, cidr.Addr()); ok {
			route.Src = source.AsSlice()
		}
		if err := netlink.RouteReplace(route); err != nil {
			c.log.WithError(fmt.Errorf("route %s to %s: %w", cidr, bridgeName, err)).Warn("The host's own programs may not reach Services")
		}
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func ofFamily(addrs []netip.Addr, like netip.Addr) (netip.Addr, bool) {
	for _, a := range addrs {
		if a.Is4() == like.Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}
