package dns

import (
	"net"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// The bridge plugin of CNI makes cni0 with the first pod and gives it the
// address that DNS has at lo already; tests/integration has the plugin itself.
func TestTheBridgeOfThePodNetworkHasTheSameAddress(t *testing.T) {
	n := connected(t)
	const name = "web.default.svc.cluster.local."
	n.podAddrs <- []netip.Addr{podAddr}
	eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, "udp", podAddr, name, mdns.TypeA) })

	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	gone := false
	t.Cleanup(func() {
		if !gone {
			_ = netlink.LinkDel(bridge)
		}
	})
	gateway := &netlink.Addr{IPNet: &net.IPNet{IP: podAddr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(bridge, gateway); err != nil {
		t.Fatalf("the bridge plugin could not add the address: %v", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	pod := newPod(t, bridge, "10.42.0.5")

	for _, tc := range []struct {
		name   string
		server netip.Addr
	}{{"a pod is answered at its gateway's address", podAddr}, {"a pod is answered at its name server's address", linkLocal}} {
		t.Run(tc.name, func(t *testing.T) {
			if got := pod(tc.server, name); got != "NOERROR 10.43.0.80" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("the host reaches pods from the gateway's address", func(t *testing.T) {
		routes, err := netlink.RouteGet(net.ParseIP("10.42.0.5"))
		if err != nil {
			t.Fatal(err)
		}
		if len(routes) != 1 || routes[0].LinkIndex != bridge.Index || !routes[0].Src.Equal(podAddr.AsSlice()) {
			t.Errorf("the route is %v", routes)
		}
	})
	t.Run("the address stays when the bridge goes", func(t *testing.T) {
		if err := netlink.LinkDel(bridge); err != nil {
			t.Fatal(err)
		}
		gone = true
		if got := ask(t, "udp", podAddr, name, mdns.TypeA); got != "NOERROR 10.43.0.80" {
			t.Errorf("got %q", got)
		}
	})
}

// newPod is a neighbour behind a bridge, with the bridge's address as gateway.
func newPod(t *testing.T, bridge *netlink.Bridge, addr string) func(netip.Addr, string) string {
	t.Helper()
	ns := inNewNamespace(t, func() error { return nil })
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vethpod", MasterIndex: bridge.Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	if err := netlink.LinkSetUp(veth); err != nil {
		t.Fatal(err)
	}
	within(t, ns, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(addr), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: podAddr.AsSlice()})
	})
	return asker(t, ns)
}
