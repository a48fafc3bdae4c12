package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
)

// uplink makes a link to other nodes, of which there is none, with an address
// for each.
func uplink(t *testing.T, addrs ...string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "up0", 1500
	peer := &netlink.Veth{LinkAttrs: attrs, PeerName: "up1"}
	if err := netlink.LinkAdd(peer); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up0", "up1"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range addrs {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		a.Flags = 0x02 // no duplicate address detection
		if err := netlink.AddrAdd(link, a); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func node(name string, cidrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if len(cidrs) > 0 {
		n.Spec = corev1.NodeSpec{PodCIDR: cidrs[0], PodCIDRs: cidrs}
	}
	return n
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// started is a running component.
type started struct {
	*Component
	client *fake.Clientset
	ready  chan struct{}
	stop   func()
}

func start(t *testing.T, client *fake.Clientset, cfg Config) *started {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(os.Stdout)
	s := &started{Component: New(cfg, client, logger.WithField("component", "network")), client: client, ready: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(s.ready) }) }()
	s.stop = func() {
		t.Helper()
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %s", took)
		}
	}
	return s
}

func (s *started) update(t *testing.T, n *corev1.Node) {
	t.Helper()
	_, err := s.client.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *started) get(t *testing.T, name string) *corev1.Node {
	t.Helper()
	n, err := s.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func hasLink(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

func linkAddrs(t *testing.T, name string) string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			all = append(all, a.IPNet.String())
		}
	}
	return strings.Join(all, " ")
}

// routed says by which link packets to an address leave.
func routed(address string) string {
	routes, err := netlink.RouteGet(net.ParseIP(address))
	if err != nil || len(routes) == 0 {
		return ""
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}

func masqueraded(t *testing.T) bool {
	t.Helper()
	return strings.Contains(command(t, "nft", "list", "ruleset"), "masquerade")
}

func TestASingleNode(t *testing.T) {
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	uplink(t, "192.0.2.1/24")
	cfg := testComponent(dir, nil).cfg
	s := start(t, fake.NewClientset(node("one")), cfg)
	select {
	case <-s.ready:
		t.Fatal("ready without pod addresses")
	case <-time.After(200 * time.Millisecond):
	}
	began := time.Now()
	s.update(t, node("one", "10.42.3.0/24"))
	<-s.ready
	t.Logf("from pod addresses to a CNI configuration: %s", time.Since(began))
	if _, err := os.Stat(filepath.Join(cfg.Layout.CNIConf(), cniFile)); err != nil {
		t.Error(err)
	}
	if got := linkAddrs(t, bridgeName); got != "10.42.3.1/24" {
		t.Errorf("the bridge has %q", got)
	}
	if gateways, err := s.Gateways(t.Context()); err != nil || len(gateways) != 1 || gateways[0] != netip.MustParseAddr("10.42.3.1") {
		t.Errorf("the gateways are %v (%v)", gateways, err)
	}
	l, err := net.Listen("tcp", "10.42.3.1:0")
	if err != nil {
		t.Errorf("nothing can listen on the gateway's address: %v", err)
	} else {
		_ = l.Close()
	}
	eventually(t, "masquerading", func() bool { return masqueraded(t) })
	eventually(t, "the node's condition", func() bool {
		c := networkCondition(s.get(t, "one"))
		return len(c) == 1 && c[0].Status == corev1.ConditionFalse
	})
	if hasLink("flannel.1") {
		t.Error("a node alone has a tunnel")
	}

	t.Run("rules that someone flushes come back", func(t *testing.T) {
		command(t, "nft", "flush", "ruleset")
		eventually(t, "masquerading", func() bool { return masqueraded(t) })
		command(t, "nft", "flush", "chain", "ip", "flannel-ipv4", "postrtg")
		eventually(t, "masquerading", func() bool { return masqueraded(t) })
	})
	s.stop()
	if !hasLink(bridgeName) || !masqueraded(t) {
		t.Error("stopping takes the network from pods")
	}

	t.Run("the next start needs no writing", func(t *testing.T) {
		path := filepath.Join(cfg.Layout.CNIConf(), cniFile)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, s.client, cfg)
		<-s.ready
		s.stop()
		after, err := os.Stat(path)
		if err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the CNI configuration was written again (%v)", err)
		}
	})
	t.Run("iptables take the place of nftables and leave nothing of them", func(t *testing.T) {
		cfg := cfg
		cfg.NFTables = false
		s := start(t, s.client, cfg)
		<-s.ready
		eventually(t, "iptables rules", func() bool {
			return strings.Contains(command(t, "iptables-save"), "-j FLANNEL-POSTRTG")
		})
		eventually(t, "no nftables table", func() bool {
			return !strings.Contains(command(t, "nft", "list", "tables"), "flannel-ipv4")
		})
		s.stop()
	})
	t.Run("the back end none takes away what was there", func(t *testing.T) {
		cfg := cfg
		cfg.Backend = BackendNone
		s := start(t, s.client, cfg)
		<-s.ready
		if rules := command(t, "iptables-save"); strings.Contains(rules, "FLANNEL") {
			t.Errorf("there are still rules: %s", rules)
		}
		if _, err := os.Stat(filepath.Join(cfg.Layout.CNIConf(), cniFile)); err == nil {
			t.Error("there is still a CNI configuration")
		}
		s.stop()
	})
	t.Run("cleaning up leaves nothing", func(t *testing.T) {
		s := start(t, s.client, cfg)
		<-s.ready
		eventually(t, "masquerading", func() bool { return masqueraded(t) })
		s.stop()
		if err := Cleanup(t.Context(), cfg.Layout); err != nil {
			t.Error(err)
		}
		if hasLink(bridgeName) || masqueraded(t) {
			t.Error("there is still a bridge or a rule")
		}
		if err := Cleanup(t.Context(), cfg.Layout); err != nil {
			t.Errorf("with nothing to clean up: %v", err)
		}
	})
}

// annotated is another node as flannel publishes it.
func annotated(name, cidr, ip, mac string) *corev1.Node {
	n := node(name, cidr)
	data, _ := json.Marshal(map[string]any{"VNI": 1, "VtepMAC": mac})
	n.Annotations = map[string]string{
		annotationManaged: "true", annotationBackendType: "vxlan",
		annotationBackendData: string(data), annotationPublicIP: ip,
	}
	return n
}

func TestOtherNodes(t *testing.T) {
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	uplink(t, "192.0.2.1/24")
	cfg := testComponent(dir, nil).cfg
	s := start(t, fake.NewClientset(node("one", "10.42.0.0/24")), cfg)
	defer s.stop()
	<-s.ready
	two := annotated("two", "10.42.1.0/24", "192.0.2.2", "02:00:00:00:00:02")
	if _, err := s.client.CoreV1().Nodes().Create(t.Context(), two, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a route to the other node's pods", func() bool { return routed("10.42.1.5") == "flannel.1" })
	eventually(t, "own annotations", func() bool { return s.get(t, "one").Annotations[annotationManaged] == "true" })
	own := s.get(t, "one").Annotations
	if own[annotationPublicIP] != "192.0.2.1" || own[annotationBackendType] != "vxlan" || storedMAC(own[annotationBackendData]) == "" {
		t.Errorf("published %v", own)
	}
	if neighbours := command(t, "ip", "neigh", "show", "dev", "flannel.1"); !strings.Contains(neighbours, "02:00:00:00:00:02") {
		t.Errorf("the other node's hardware address is not known: %s", neighbours)
	}

	t.Run("a tunnel that someone deletes comes back as it was", func(t *testing.T) {
		mac := storedMAC(own[annotationBackendData])
		command(t, "ip", "link", "delete", "flannel.1")
		eventually(t, "a route to the other node's pods", func() bool { return routed("10.42.1.5") == "flannel.1" })
		link, err := netlink.LinkByName("flannel.1")
		if err != nil || link.Attrs().HardwareAddr.String() != mac {
			t.Errorf("the tunnel's hardware address is %v (%v), want %s", link, err, mac)
		}
	})
	t.Run("a tunnel is watched although the kernel drops notices", func(t *testing.T) {
		changeLinks(t)
		command(t, "ip", "link", "delete", "flannel.1")
		eventually(t, "a route to the other node's pods", func() bool { return routed("10.42.1.5") == "flannel.1" })
	})
	t.Run("a node that moves is followed", func(t *testing.T) {
		s.update(t, annotated("two", "10.42.1.0/24", "192.0.2.22", "02:00:00:00:00:22"))
		eventually(t, "the new address", func() bool {
			fdb := command(t, "bridge", "fdb", "show", "dev", "flannel.1")
			return strings.Contains(fdb, "192.0.2.22") && !strings.Contains(fdb, "192.0.2.2 ")
		})
	})
	t.Run("a node with another back end is left out", func(t *testing.T) {
		three := annotated("three", "10.42.2.0/24", "192.0.2.3", "02:00:00:00:00:03")
		three.Annotations[annotationBackendType] = "host-gw"
		if _, err := s.client.CoreV1().Nodes().Create(t.Context(), three, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		if got := routed("10.42.2.5"); got == "flannel.1" {
			t.Error("there is a route to it")
		}
	})
	t.Run("a node that goes takes its route along", func(t *testing.T) {
		if err := s.client.CoreV1().Nodes().Delete(t.Context(), "two", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no route", func() bool { return routed("10.42.1.5") != "flannel.1" })
	})
}

func TestOtherNodesOnBothAddressFamilies(t *testing.T) {
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	uplink(t, "192.0.2.1/24", "2001:db8::1/64")
	cfg := testComponent(dir, func(c *Config) {
		c.NodeIPs = append(c.NodeIPs, netip.MustParseAddr("2001:db8::1"))
		c.ClusterCIDRs = prefixes("10.42.0.0/16", "fd00:42::/56")
	}).cfg
	s := start(t, fake.NewClientset(node("one", "10.42.0.0/24", "fd00:42::/64")), cfg)
	defer s.stop()
	<-s.ready
	two := annotated("two", "10.42.1.0/24", "192.0.2.2", "02:00:00:00:00:02")
	two.Spec.PodCIDRs = append(two.Spec.PodCIDRs, "fd00:42:0:1::/64")
	two.Annotations[annotationBackendData6] = `{"VNI":1,"VtepMAC":"02:00:00:00:00:62"}`
	two.Annotations[annotationPublicIP6] = "2001:db8::2"
	if _, err := s.client.CoreV1().Nodes().Create(t.Context(), two, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	reached := func() bool { return routed("10.42.1.5") == "flannel.1" && routed("fd00:42:0:1::5") == "flannel-v6.1" }
	eventually(t, "routes to the other node's pods", reached)
	known := command(t, "ip", "-6", "neigh", "show", "dev", "flannel-v6.1") + command(t, "bridge", "fdb", "show", "dev", "flannel-v6.1")
	for _, want := range []string{"fd00:42:0:1:: lladdr 02:00:00:00:00:62 PERMANENT", "02:00:00:00:00:62 dst 2001:db8::2"} {
		if !strings.Contains(known, want) {
			t.Errorf("no %q in\n%s", want, known)
		}
	}
	command(t, "ip", "link", "delete", "flannel-v6.1")
	eventually(t, "both routes again", reached)
	if err := s.client.CoreV1().Nodes().Delete(t.Context(), "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no routes", func() bool {
		return routed("10.42.1.5") != "flannel.1" && routed("fd00:42:0:1::5") != "flannel-v6.1"
	})
	if known := command(t, "bridge", "fdb", "show", "dev", "flannel-v6.1"); strings.Contains(known, "2001:db8::2") {
		t.Errorf("the node is still in the forwarding table:\n%s", known)
	}
}

// changeLinks has more notices of links sent at once than a process fetches that
// has other work, as when very many pods start: the kernel keeps some hundred for
// it and drops the others.
func changeLinks(t *testing.T) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		go func() {
			for ctx.Err() == nil {
			}
		}()
	}
	var batch strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&batch, "link set lo mtu %d\n", 60000+i%2)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "-batch", file)
}

func TestHostGateway(t *testing.T) {
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	uplink(t, "192.0.2.1/24", "2001:db8::1/64")
	cfg := testComponent(dir, func(c *Config) {
		c.Backend = BackendHostGW
		c.NodeIPs = append(c.NodeIPs, netip.MustParseAddr("2001:db8::1"))
		c.ClusterCIDRs = prefixes("10.42.0.0/16", "fd00:42::/56")
	}).cfg
	s := start(t, fake.NewClientset(node("one", "10.42.0.0/24", "fd00:42::/64")), cfg)
	defer s.stop()
	<-s.ready
	if got := linkAddrs(t, bridgeName); got != "10.42.0.1/24 fd00:42::1/64" {
		t.Errorf("the bridge has %q", got)
	}
	two := node("two", "10.42.1.0/24", "fd00:42:0:1::/64")
	two.Annotations = map[string]string{
		annotationManaged: "true", annotationBackendType: "host-gw", annotationBackendData: "null", annotationBackendData6: "null",
		annotationPublicIP: "192.0.2.2", annotationPublicIP6: "2001:db8::2",
	}
	if _, err := s.client.CoreV1().Nodes().Create(t.Context(), two, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "routes to the other node's pods", func() bool {
		return routed("10.42.1.5") == "up0" && routed("fd00:42:0:1::5") == "up0"
	})
}

func TestAForeignLinkNamedLikeTheBridge(t *testing.T) {
	_, inside := nstest.Inside(t)
	if !inside {
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	err := ensureBridge(prefixes("10.42.0.0/24"), 1450)
	if err == nil || !strings.Contains(err.Error(), "ip link delete cni0") {
		t.Errorf("got %v, want what to do about it", err)
	}
}

func TestABridgeOfAnotherClusterGetsOurAddresses(t *testing.T) {
	_, inside := nstest.Inside(t)
	if !inside {
		return
	}
	for _, cidr := range []string{"10.99.0.0/24", "10.42.0.0/24"} {
		if err := ensureBridge(prefixes(cidr), 1450); err != nil {
			t.Fatal(err)
		}
	}
	if got := linkAddrs(t, bridgeName); got != "10.42.0.1/24" {
		t.Errorf("the bridge has %q", got)
	}
}
