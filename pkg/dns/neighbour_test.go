package dns

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func serviceLike(name, ip string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   typed("services"),
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "2"},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, ClusterIPs: []string{ip}, Type: corev1.ServiceTypeClusterIP,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
}

// newNeighbour makes another network namespace with one address, connected by a
// veth pair, and gives a function that asks from there.
func newNeighbour(t *testing.T, addr string) func(server netip.Addr, name string) string {
	t.Helper()
	h := fnv.New32a()
	_, _ = h.Write([]byte(addr))
	link := fmt.Sprintf("v%x", h.Sum32())
	ns := inNewNamespace(t, func() error { return nil })
	ip := net.ParseIP(addr)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}); err != nil {
		t.Fatal(err)
	}
	here, err := netlink.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(here) })
	if err := netlink.LinkSetUp(here); err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: here.Attrs().Index, Dst: hostNet(ip), Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	within(t, ns, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: hostNet(ip)}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Scope: netlink.SCOPE_LINK})
	})
	return asker(t, ns)
}

// asker asks for an address from a namespace.
func asker(t *testing.T, ns *os.File) func(server netip.Addr, name string) string {
	return func(server netip.Addr, name string) string {
		answer := ""
		within(t, ns, func() error {
			var err error
			answer, err = exchange("udp", server, netip.Addr{}, name, mdns.TypeA)
			return err
		})
		return answer
	}
}

func hostNet(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }

// inNewNamespace makes a network namespace and runs f in it. The namespace goes
// when the test ends.
func inNewNamespace(t *testing.T, f func() error) *os.File {
	t.Helper()
	result := make(chan error, 1)
	var ns *os.File
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		var err error
		if ns, err = os.Open("/proc/thread-self/ns/net"); err == nil {
			err = f()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// within runs f in a namespace.
func within(t *testing.T, ns *os.File, f func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	if err := <-result; err != nil {
		t.Error(err)
	}
}
