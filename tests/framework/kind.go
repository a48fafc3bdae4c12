package framework

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// Kind is a kind of network that clusters are tested in.
type Kind struct {
	Name string
	// Families are for NewCluster.
	Families []nshost.Family
	// Server are the arguments of servers.
	Server []string
}

// IPv4 is what a server without settings has.
func IPv4() Kind { return Kind{Name: "IPv4", Families: []nshost.Family{nshost.IPv4}} }

// IPv6 is a network without IPv4.
func IPv6() Kind {
	return Kind{
		Name: "IPv6", Families: []nshost.Family{nshost.IPv6},
		Server: []string{"--cluster-cidr=fd00:42::/56", "--service-cidr=fd00:43::/112"},
	}
}

// DualStack is a network with both, and IPv4 first.
func DualStack() Kind {
	return Kind{
		Name: "DualStack", Families: []nshost.Family{nshost.IPv4, nshost.IPv6},
		Server: []string{"--cluster-cidr=10.42.0.0/16,fd00:42::/56", "--service-cidr=10.43.0.0/16,fd00:43::/112"},
	}
}

// Elsewhere are addresses that no host has got from its network, one of each
// family, for a number from 1 to 99.
func (k Kind) Elsewhere(number int) []netip.Addr {
	var all []netip.Addr
	for _, f := range k.Families {
		format := map[nshost.Family]string{nshost.IPv4: "192.0.2.%d", nshost.IPv6: "2001:db8::%d"}[f]
		all = append(all, netip.MustParseAddr(fmt.Sprintf(format, number)))
	}
	return all
}

// InEachKind runs a test in each kind of network, all at once.
func InEachKind(t *testing.T, test func(*testing.T, Kind)) {
	t.Parallel()
	for _, k := range []Kind{IPv4(), IPv6(), DualStack()} {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}
