package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

var (
	linkLocal = netip.MustParseAddr("169.254.20.10")
	podAddr   = netip.MustParseAddr("10.42.0.1")
)

// node is a running DNS component.
type node struct {
	t         *testing.T
	api       *fakeAPI
	upstreams chan []netip.AddrPort
	podAddrs  chan []netip.Addr
	logs      *logrustest.Hook
	stop      func()
}

func start(t *testing.T, upstreams ...netip.AddrPort) *node {
	t.Helper()
	return startAt(t, linkLocal, upstreams...)
}

func startAt(t *testing.T, at netip.Addr, upstreams ...netip.AddrPort) *node {
	t.Helper()
	n := &node{t: t, api: newFakeAPI(t), upstreams: make(chan []netip.AddrPort), podAddrs: make(chan []netip.Addr)}
	logger, hook := logrustest.NewNullLogger()
	n.logs = hook
	cfg := Config{
		NodeName: "edge-1", Domain: "cluster.local", Listen: []netip.Addr{at},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		ServiceAddrs: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, Upstreams: upstreams,
	}
	c := New(cfg, Changes{Upstreams: n.upstreams, PodAddrs: n.podAddrs}, n.api.config(), logrus.NewEntry(logger))
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	n.stop = func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
			ended <- nil
		case <-time.After(3 * time.Second):
			t.Error("Run did not return within 3 s")
		}
	}
	t.Cleanup(n.stop)
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("not ready: %v", err)
	case <-time.After(5 * time.Second):
		t.Fatal("not ready after 5 s")
	}
	return n
}

// connected starts a node with the API server there.
func connected(t *testing.T, upstreams ...netip.AddrPort) *node {
	n := start(t, upstreams...)
	n.api.cluster()
	close(n.api.open)
	return n
}

// ask sends one query and gives "RCODE record data, record data".
func ask(t *testing.T, network string, server netip.Addr, name string, qtype uint16) string {
	t.Helper()
	answer, err := exchange(network, server, netip.Addr{}, name, qtype)
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func exchange(network string, server, from netip.Addr, name string, qtype uint16) (string, error) {
	client := &mdns.Client{Net: network, Timeout: 6 * time.Second, Dialer: &net.Dialer{Timeout: 2 * time.Second}}
	if from.IsValid() {
		client.Dialer.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
	}
	m := new(mdns.Msg).SetQuestion(name, qtype)
	answer, _, err := client.Exchange(m, address(server))
	if err != nil {
		return "", err
	}
	var data []string
	for _, rr := range answer.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return strings.TrimSpace(mdns.RcodeToString[answer.Rcode] + " " + strings.Join(data, ", ")), nil
}

// eventually waits for an answer to change into what is wanted.
func eventually(t *testing.T, want string, got func() string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	last := ""
	for time.Now().Before(deadline) {
		if last = got(); last == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("got %q, want %q", last, want)
}

// upstream is a real name server that answers every A query with an address.
func upstream(t *testing.T, addr, answer string) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	started := make(chan struct{})
	server := &mdns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
		asked.Add(1)
		m := new(mdns.Msg).SetReply(r)
		rr, _ := mdns.NewRR(r.Question[0].Name + " 30 IN A " + answer)
		if r.Question[0].Qtype == mdns.TypeA {
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return netip.MustParseAddrPort(conn.LocalAddr().String()), &asked
}

func TestNamesOfTheCluster(t *testing.T) {
	connected(t)
	for _, tc := range []struct {
		name, query string
		qtype       uint16
		want        string
	}{
		{"a Service has its address", "web.default.svc.cluster.local.", mdns.TypeA, "NOERROR 10.43.0.80"},
		{"case does not matter", "WEB.default.svc.Cluster.Local.", mdns.TypeA, "NOERROR 10.43.0.80"},
		{"a Service has its port", "_http._tcp.web.default.svc.cluster.local.", mdns.TypeSRV, "NOERROR 0 100 80 web.default.svc.cluster.local."},
		{"an address leads back to its Service", "80.0.43.10.in-addr.arpa.", mdns.TypePTR, "NOERROR web.default.svc.cluster.local."},
		{"a headless Service has its pods' addresses", "db.default.svc.cluster.local.", mdns.TypeA, "NOERROR 10.42.0.5, 10.42.1.6"},
		{"a pod of a headless Service has a name", "db-0.db.default.svc.cluster.local.", mdns.TypeA, "NOERROR 10.42.0.5"},
		{"a pod has a name made of its address", "10-42-0-5.default.pod.cluster.local.", mdns.TypeA, "NOERROR 10.42.0.5"},
		{"a Service without IPv6 exists all the same", "web.default.svc.cluster.local.", mdns.TypeAAAA, "NOERROR"},
		{"what is not there does not exist", "none.default.svc.cluster.local.", mdns.TypeA, "NXDOMAIN"},
		{"a node is known by its name", "edge-1.", mdns.TypeA, "NOERROR 192.0.2.1"},
		{"a node's address leads back to its name", "1.2.0.192.in-addr.arpa.", mdns.TypePTR, "NOERROR edge-1."},
		{"an external name fails at once without name servers", "example.org.", mdns.TypeA, "SERVFAIL"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(tc.name+" over "+network, func(t *testing.T) {
				eventually(t, tc.want, func() string { return ask(t, network, linkLocal, tc.query, tc.qtype) })
			})
		}
	}
}

func TestNamesAreRightFromTheFirstQueryOn(t *testing.T) {
	n := start(t)
	n.api.cluster()
	got := make(chan string)
	go func() { got <- ask(t, "udp", linkLocal, "web.default.svc.cluster.local.", mdns.TypeA) }()
	select {
	case answer := <-got:
		t.Fatalf("answered %q before the cluster was known", answer)
	case <-time.After(200 * time.Millisecond):
	}
	close(n.api.open)
	if answer := <-got; answer != "NOERROR 10.43.0.80" {
		t.Errorf("got %q", answer)
	}
}

func TestDNSOverIPv6(t *testing.T) {
	at, pods := netip.MustParseAddr("fd00:42:ffff::53"), netip.MustParseAddr("fd42::1")
	n := startAt(t, at)
	n.api.cluster()
	close(n.api.open)
	n.podAddrs <- []netip.Addr{pods}
	for _, addr := range []netip.Addr{at, pods} {
		for _, network := range []string{"udp", "tcp"} {
			eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, network, addr, "web.default.svc.cluster.local.", mdns.TypeA) })
		}
	}
}

func TestANewServiceIsSeenAtOnce(t *testing.T) {
	n := connected(t)
	query := func() string { return ask(t, "udp", linkLocal, "new.default.svc.cluster.local.", mdns.TypeA) }
	eventually(t, "NXDOMAIN", query)
	n.api.put("services", "new", serviceLike("new", "10.43.0.99"))
	begin := time.Now()
	eventually(t, "NOERROR 10.43.0.99", query)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s: the name's absence was cached", took)
	}
}

func TestExternalNames(t *testing.T) {
	first, asked := upstream(t, "127.0.0.1:0", "203.0.113.1")
	second, _ := upstream(t, "127.0.0.1:0", "203.0.113.2")
	self := netip.AddrPortFrom(linkLocal, port)
	service := netip.MustParseAddrPort("10.43.0.10:53")
	n := connected(t, self, service, first)
	query := func() string { return ask(t, "udp", linkLocal, "example.org.", mdns.TypeA) }

	t.Run("are answered by the host's name server, past addresses that would ask us again", func(t *testing.T) {
		eventually(t, "NOERROR 203.0.113.1", query)
	})
	t.Run("are cached", func(t *testing.T) {
		before := asked.Load()
		for range 5 {
			query()
		}
		if after := asked.Load(); after != before {
			t.Errorf("the name server was asked %d more times", after-before)
		}
	})
	t.Run("are asked of the new name server after a change", func(t *testing.T) {
		n.upstreams <- []netip.AddrPort{second}
		eventually(t, "NOERROR 203.0.113.2", query)
	})
	t.Run("fail at once when the host has lost its name servers", func(t *testing.T) {
		n.upstreams <- nil
		eventually(t, "SERVFAIL", query)
	})
	t.Run("come back with a name server", func(t *testing.T) {
		n.upstreams <- []netip.AddrPort{first}
		eventually(t, "NOERROR 203.0.113.1", query)
	})
}

func TestQueriesAreAnsweredDuringChanges(t *testing.T) {
	up, _ := upstream(t, "127.0.0.1:0", "203.0.113.1")
	n := connected(t, up)
	eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, "udp", linkLocal, "web.default.svc.cluster.local.", mdns.TypeA) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20 {
			if i%2 == 0 {
				n.upstreams <- nil
			} else {
				n.upstreams <- []netip.AddrPort{up}
			}
		}
	}()
	asked := 0
	for running := true; running; asked++ {
		select {
		case <-done:
			running = false
		default:
		}
		network := []string{"udp", "tcp"}[asked%2]
		got := ask(t, network, linkLocal, "web.default.svc.cluster.local.", mdns.TypeA)
		for try := 0; try < 5 && network == "tcp" && strings.HasPrefix(got, "error: "); try++ {
			// CoreDNS closes connections that it has accepted but not read yet;
			// clients connect again.
			got = ask(t, network, linkLocal, "web.default.svc.cluster.local.", mdns.TypeA)
		}
		if got != "NOERROR 10.43.0.80" {
			t.Fatalf("query %d over %s: %s", asked, network, got)
		}
	}
	t.Logf("%d queries answered", asked)
}

func TestTheAddressInThePodNetwork(t *testing.T) {
	n := connected(t)
	n.podAddrs <- []netip.Addr{podAddr}
	const name = "web.default.svc.cluster.local."
	eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, "udp", podAddr, name, mdns.TypeA) })
	if got := ask(t, "tcp", podAddr, name, mdns.TypeA); got != "NOERROR 10.43.0.80" {
		t.Errorf("over TCP: %s", got)
	}

	t.Run("is taken away and comes back", func(t *testing.T) {
		removeFromLoopback(t, podAddr)
		eventually(t, "NOERROR 10.43.0.80", func() string {
			got, err := exchange("udp", podAddr, netip.Addr{}, name, mdns.TypeA)
			if err != nil {
				return err.Error()
			}
			return got
		})
	})
	t.Run("moves with the node's pod CIDR", func(t *testing.T) {
		moved := netip.MustParseAddr("10.42.7.1")
		n.podAddrs <- []netip.Addr{moved}
		eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, "udp", moved, name, mdns.TypeA) })
		eventually(t, "gone", func() string {
			if onLoopback(t, podAddr) {
				return "still there"
			}
			return "gone"
		})
	})
}

func TestWhoMayAsk(t *testing.T) {
	n := connected(t)
	n.podAddrs <- []netip.Addr{podAddr}
	stranger, pod := newNeighbour(t, "203.0.113.50"), newNeighbour(t, "10.42.9.9")
	const name = "web.default.svc.cluster.local."
	eventually(t, "NOERROR 10.43.0.80", func() string { return ask(t, "udp", podAddr, name, mdns.TypeA) })
	for _, tc := range []struct {
		name string
		ask  func(netip.Addr, string) string
		at   netip.Addr
		want string
	}{
		{"a stranger is refused at the address in the pod network", stranger, podAddr, "REFUSED"},
		{"a pod is answered there", pod, podAddr, "NOERROR 10.43.0.80"},
		{"a pod is answered at its name server's address", pod, linkLocal, "NOERROR 10.43.0.80"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.ask(tc.at, name); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	addrs := &addresses{log: logrus.NewEntry(logrus.New())}
	if err := addrs.want([]netip.Addr{linkLocal}); err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenPacket("udp", "0.0.0.0:53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	logger, _ := logrustest.NewNullLogger()
	api := newFakeAPI(t)
	c := New(Config{Domain: "cluster.local", Listen: []netip.Addr{linkLocal}}, Changes{}, api.config(), logrus.NewEntry(logger))
	err = c.Run(t.Context(), func() { t.Error("ready") })
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"port 53 of 169.254.20.10", fmt.Sprintf("(process %d)", os.Getpid()), "--link-local-dns"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestStoppingWithAHangingNameServerIsQuick(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	options := append(ignored(), goleak.IgnoreCurrent())
	n := connected(t, netip.MustParseAddrPort(silent.LocalAddr().String()))
	hanging := make(chan error, 1)
	go func() {
		_, err := exchange("udp", linkLocal, netip.Addr{}, "example.org.", mdns.TypeA)
		hanging <- err
	}()
	if _, _, err := silent.ReadFrom(make([]byte, 512)); err != nil { // the query is under way
		t.Fatal(err)
	}
	begin := time.Now()
	n.stop()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %s", took)
	}
	<-hanging
	// What was left behind ends by itself, when CoreDNS gives the query up.
	n.api.Close()
	left := goleak.Find(options...)
	for deadline := time.Now().Add(10 * time.Second); left != nil && time.Now().Before(deadline); {
		left = goleak.Find(options...)
	}
	if left != nil {
		t.Error(left)
	}
}

func removeFromLoopback(t *testing.T, addr netip.Addr) {
	t.Helper()
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrDel(lo, loopbackAddr(addr)); err != nil {
		t.Fatal(err)
	}
}

func onLoopback(t *testing.T, addr netip.Addr) bool {
	t.Helper()
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) })
}
