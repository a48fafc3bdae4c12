package hostaddr

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
)

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log.WithField("component", "hostaddr")
}

// inNamespace runs the calling test again in a network namespace of its own
// and says whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace takes root")
	}
	const sign = "SKIFF_HOSTADDR_NAMESPACE"
	if os.Getenv(sign) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), sign+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// makeLink makes an interface that is up.
func makeLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return link
}

func addAddr(t *testing.T, link netlink.Link, cidr string) *netlink.Addr {
	t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestAddressesAreFollowed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	// A device whose network comes up after its boot.
	reported, found := make(chan error, 10), make(chan Addresses, 1)
	go func() {
		a, err := Await(ctx, Config{}, func(err error) { reported <- err })
		if err != nil {
			t.Error(err)
		}
		found <- a
	}()
	t.Logf("waits because %v", <-reported)
	lan := makeLink(t, "lan0")
	first := addAddr(t, lan, "192.0.2.5/24")
	current := <-found
	if !slices.Equal(current.Node, addrs("192.0.2.5")) || current.Interface != "lan0" {
		t.Fatalf("found %+v", current)
	}
	if name, err := InterfaceOf(netip.MustParseAddr("192.0.2.5")); err != nil || name != "lan0" {
		t.Errorf("its interface is %s (%v)", name, err)
	}

	changes, err := Watch(ctx, Config{}, current, quiet())
	if err != nil {
		t.Fatal(err)
	}
	// DHCP gives another address: the old one goes before the new one comes.
	if err := netlink.AddrDel(lan, first); err != nil {
		t.Fatal(err)
	}
	addAddr(t, lan, "192.0.2.77/24")
	if got := <-changes; !slices.Equal(got.Node, addrs("192.0.2.77")) {
		t.Errorf("after DHCP: %+v", got)
	}
	// Pods come and go.
	addAddr(t, makeLink(t, "cni0"), "10.42.0.1/24")
	makeLink(t, "veth0")
	select {
	case got := <-changes:
		t.Errorf("a pod network changed the node's addresses: %+v", got)
	case <-time.After(settle + 300*time.Millisecond):
	}
	// The default route moves to another interface.
	wifi := makeLink(t, "wifi0")
	addAddr(t, wifi, "198.51.100.9/24")
	_, everything, _ := net.ParseCIDR("0.0.0.0/0")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: wifi.Attrs().Index, Dst: everything, Gw: net.ParseIP("198.51.100.1")}); err != nil {
		t.Fatal(err)
	}
	if got := <-changes; !slices.Equal(got.Node, addrs("198.51.100.9")) || got.Interface != "wifi0" ||
		!slices.Equal(got.All, addrs("192.0.2.77", "198.51.100.9")) {
		t.Errorf("after the default route moved: %+v", got)
	}
	cancel()
	if _, ok := <-changes; ok {
		t.Error("the channel stays open after the end")
	}
}

func TestWaitingForAnAddressEndsWithItsContext(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Await(ctx, Config{}, func(error) { cancel() }); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestPodsLinkLocalAddressesWakeNobodyUp(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	link := makeLink(t, "lan0")
	events, err := subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addAddr(t, link, "fe80::7/64")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 42, 1, 0).To4(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-events:
		t.Error("woken up by a link-local address or a pod's route")
	case <-time.After(100 * time.Millisecond):
	}
	addAddr(t, link, "192.0.2.5/24")
	<-events
}
