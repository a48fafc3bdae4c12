package nshost

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// hardwareAddress derives a link's address from a unique name, so that a host
// has the same one again after it was started again.
func hardwareAddress(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return append(net.HardwareAddr{0x02}, sum[:5]...) // 2: not by a manufacturer
}

// configureLinks runs in the host's init.
func configureLinks(s spec) error {
	for _, name := range []string{"lo", "eth0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding link %s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting %s up: %w", name, err)
		}
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	for _, a := range s.Addresses {
		if err := addAddress(link, a); err != nil {
			return fmt.Errorf("giving eth0 its address %s: %w", a, err)
		}
	}
	for _, g := range s.Gateways {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("adding the default route by %s: %w", g, err)
		}
	}
	return nil
}

// ChangeAddresses gives the running host other addresses of its network and
// takes the old ones away, as a new lease does. Connections of the old ones
// hang.
func (h *Host) ChangeAddresses(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, s := h.addresses, h.spec
	s.Addresses = h.config.Network.next()
	var script strings.Builder
	for i := range s.Addresses {
		family, nodad := "-4", ""
		if s.Gateways[i].Is6() {
			family, nodad = "-6", " nodad"
		}
		// The other way round the second address would go with the first.
		fmt.Fprintf(&script, "ip address del %s dev eth0\n", old[i])
		fmt.Fprintf(&script, "ip address add %s dev eth0%s\n", s.Addresses[i], nodad)
		fmt.Fprintf(&script, "ip %s route replace default via %s dev eth0\n", family, s.Gateways[i])
	}
	fmt.Fprintf(&script, "cat >/etc/hosts <<END\n%sEND\n", s.hostsFile())
	if err := h.Run(ctx, Cmd{Args: []string{"sh", "-ec", script.String()}}); err != nil {
		return fmt.Errorf("changing the addresses of host %s: %w", s.ID, err)
	}
	h.addresses = s.Addresses
	return s.save()
}

// hostsFile is the content of /etc/hosts.
func (s spec) hostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	for _, a := range s.Addresses {
		fmt.Fprintf(&b, "%s %s\n", a.Addr(), s.Hostname)
	}
	return b.String()
}
