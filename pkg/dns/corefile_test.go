package dns

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestUsableNameServers(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("169.254.20.10"), netip.MustParseAddr("10.43.0.10")}
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("192.0.2.%d:53", i))
	}
	for _, tc := range []struct {
		name string
		list []string
		want string
	}{
		{"keep their order", []string{"192.0.2.2:53", "192.0.2.1:53"}, "192.0.2.2:53 192.0.2.1:53"},
		{"are not ourselves", []string{"169.254.20.10:53", "192.0.2.1:53", "10.43.0.10:53"}, "192.0.2.1:53"},
		{"may be at our address and another port", []string{"169.254.20.10:5353"}, "169.254.20.10:5353"},
		{"are there once", []string{"192.0.2.1:53", "[::ffff:192.0.2.1]:53"}, "192.0.2.1:53"},
		{"are not behind an interface that would be forgotten", []string{"[fe80::1%eth0]:53", "[2001:db8::1]:53"}, "[2001:db8::1]:53"},
		{"may be none", nil, ""},
		{"are no more than can be asked", many, joined(addrPorts(many[:15]))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := joined(usable(addrPorts(tc.list), own)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func addrPorts(list []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, one := range list {
		out = append(out, netip.MustParseAddrPort(one))
	}
	return out
}
