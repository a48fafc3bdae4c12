package hostaddr

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// A host with the way to the internet on one side and the servers on the other.
func TestTheWayToTheServersDecides(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for name, address := range map[string]string{"wan0": "192.0.2.5/24", "lan0": "10.0.0.5/24", "lan1": "fd00:1::5/64"} {
		link := makeLink(t, name)
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = 2 // IFA_F_NODAD: nobody is there to answer
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
		if name == "wan0" {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}
			if err := netlink.RouteAdd(route); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name  string
		cfg   Config
		want  []netip.Addr
		iface string
	}{
		{"without any by the default route", Config{}, addrs("192.0.2.5"), "wan0"},
		{"a server in the local network", Config{Toward: addrs("10.0.0.9")}, addrs("10.0.0.5"), "lan0"},
		{"a server far away", Config{Toward: addrs("203.0.113.1")}, addrs("192.0.2.5"), "wan0"},
		{"a server with an IPv6 address, in a cluster of that family", Config{Toward: addrs("fd00:1::9")}, addrs("fd00:1::5"), "lan1"},
		{"a server of one family in a cluster of both", Config{Toward: addrs("10.0.0.9"), Families: []Family{IPv4, IPv6}}, addrs("10.0.0.5", "fd00:1::5"), "lan0"},
		{"a server that no route leads to", Config{Toward: addrs("fd00:2::1"), Families: []Family{IPv4}}, addrs("192.0.2.5"), "wan0"},
		{"a server on this host", Config{Toward: addrs("127.0.0.1")}, addrs("192.0.2.5"), "wan0"},
	} {
		got, err := Choose(test.cfg)
		if err != nil || !slices.Equal(got.Node, test.want) || got.Interface != test.iface {
			t.Errorf("%s: %v on %s (%v), want %v on %s", test.name, got.Node, got.Interface, err, test.want, test.iface)
		}
	}
}
