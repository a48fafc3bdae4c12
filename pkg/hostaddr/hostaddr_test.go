package hostaddr

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host describes a machine: "name address address…" for each link, which is
// up unless its name begins with "-"; "~address" is a secondary one.
func host(t *testing.T, links []string, routes ...defaultRoute) *table {
	t.Helper()
	h := &table{links: map[int]netlink.LinkAttrs{}, routes: routes}
	for i, text := range links {
		fields := strings.Fields(text)
		attrs := netlink.LinkAttrs{Index: i + 1, Name: strings.TrimPrefix(fields[0], "-"), OperState: netlink.OperUp}
		if !strings.HasPrefix(fields[0], "-") {
			attrs.Flags |= net.FlagUp
		}
		if attrs.Name == "lo" {
			attrs.Flags |= net.FlagLoopback
		}
		if strings.HasPrefix(attrs.Name, "nocable") {
			attrs.OperState = netlink.OperDown
		}
		h.links[i+1] = attrs
		for _, a := range fields[1:] {
			text, secondary := strings.CutPrefix(a, "~")
			addr := netip.MustParseAddr(text)
			h.addrs = append(h.addrs, address{Addr: addr, link: i + 1, secondary: secondary, global: addr.IsGlobalUnicast()})
		}
	}
	return h
}

func addrs(list ...string) []netip.Addr {
	var parsed []netip.Addr
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

func TestANodesAddressIsChosen(t *testing.T) {
	lo := "lo 127.0.0.1 ::1"
	tests := []struct {
		name      string
		links     []string
		routes    []defaultRoute
		cfg       Config
		want      []netip.Addr
		wantIface string
		wantError string
	}{
		{name: "by the default route", links: []string{lo, "eth0 10.0.0.5", "eth1 192.0.2.5"},
			routes: []defaultRoute{{family: IPv4, link: 3}}, want: addrs("192.0.2.5"), wantIface: "eth1"},
		{name: "by the route's own source", links: []string{lo, "eth0 10.0.0.5 10.0.0.6"},
			routes: []defaultRoute{{family: IPv4, link: 2, source: netip.MustParseAddr("10.0.0.6")}}, want: addrs("10.0.0.6"), wantIface: "eth0"},
		{name: "by the first of two default routes", links: []string{lo, "wlan0 10.0.0.5", "eth0 192.0.2.5"},
			routes: []defaultRoute{{family: IPv4, link: 3, metric: 100}, {family: IPv4, link: 2, metric: 600}}, want: addrs("192.0.2.5"), wantIface: "eth0"},
		{name: "without a default route by the first interface", links: []string{lo, "eth0 10.0.0.5", "eth1 192.0.2.5"},
			want: addrs("10.0.0.5"), wantIface: "eth0"},
		{name: "without a default route not by a container network", links: []string{lo, "docker0 172.17.0.1", "cni0 10.42.0.1",
			"flannel.1 10.42.0.0", "br-0123456789ab 172.18.0.1", "veth1234 10.9.9.9", "eth7 192.0.2.5"}, want: addrs("192.0.2.5"), wantIface: "eth7"},
		{name: "a router's main bridge is no container network", links: []string{lo, "br-lan 192.168.1.1"}, want: addrs("192.168.1.1"), wantIface: "br-lan"},
		{name: "with a cable rather than without", links: []string{lo, "nocable0 10.0.0.5", "eth1 192.0.2.5"}, want: addrs("192.0.2.5"), wantIface: "eth1"},
		{name: "without any cable all the same", links: []string{lo, "nocable0 10.0.0.5"}, want: addrs("10.0.0.5"), wantIface: "nocable0"},
		{name: "not on an interface that is down", links: []string{lo, "-eth0 10.0.0.5", "eth1 192.0.2.5"}, want: addrs("192.0.2.5"), wantIface: "eth1"},
		{name: "not a floating second address", links: []string{lo, "eth0 ~10.0.0.100 10.0.0.5"},
			routes: []defaultRoute{{family: IPv4, link: 2}}, want: addrs("10.0.0.5"), wantIface: "eth0"},
		{name: "not a link-local address", links: []string{lo, "eth0 169.254.3.4 fe80::1", "eth1 10.0.0.5"}, want: addrs("10.0.0.5"), wantIface: "eth1"},
		{name: "of both families, the main one first", links: []string{lo, "eth0 10.0.0.5 fe80::1 fd00::5"},
			routes: []defaultRoute{{family: IPv6, link: 2}, {family: IPv4, link: 2}},
			cfg:    Config{Families: []Family{IPv6, IPv4}}, want: addrs("fd00::5", "10.0.0.5"), wantIface: "eth0"},
		{name: "the user's", links: []string{lo, "eth0 10.0.0.5", "wg0 10.99.0.1"}, routes: []defaultRoute{{family: IPv4, link: 2}},
			cfg: Config{NodeIPs: addrs("10.99.0.1")}, want: addrs("10.99.0.1"), wantIface: "wg0"},
		{name: "the user's, even on the loopback interface", links: []string{"lo 127.0.0.1 10.255.0.1", "eth0 10.0.0.5"},
			cfg: Config{NodeIPs: addrs("10.255.0.1")}, want: addrs("10.255.0.1"), wantIface: "lo"},
		{name: "the user's is not there", links: []string{lo, "eth0 10.0.0.5"}, cfg: Config{NodeIPs: addrs("10.0.0.9")},
			wantError: "node-ip: 10.0.0.9 is no address of this host, which has [10.0.0.5]"},
		{name: "there is none", links: []string{lo, "eth0 fe80::1"}, wantError: "this host has no global IPv4 address, only []"},
		{name: "there is none of the second family", links: []string{lo, "eth0 10.0.0.5"}, cfg: Config{Families: []Family{IPv4, IPv6}},
			wantError: "this host has no global IPv6 address, only [10.0.0.5]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := host(t, test.links, test.routes...).choose(test.cfg)
			if test.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantError) || !errors.Is(err, ErrNoAddress) {
					t.Errorf("got %v, want %s", err, test.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Node, test.want) || got.Interface != test.wantIface {
				t.Errorf("got %v on %s, want %v on %s", got.Node, got.Interface, test.want, test.wantIface)
			}
			for _, a := range got.Node {
				if !slices.Contains(got.All, a) {
					t.Errorf("%v lacks %s", got.All, a)
				}
			}
		})
	}
}

func TestFamiliesAreTakenFromTheNetworks(t *testing.T) {
	got := FamiliesOf([]netip.Prefix{netip.MustParsePrefix("fd42::/56"), netip.MustParsePrefix("10.42.0.0/16")})
	if !slices.Equal(got, []Family{IPv6, IPv4}) {
		t.Errorf("got %v", got)
	}
}
