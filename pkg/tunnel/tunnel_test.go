package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// unroutable is an address that nothing answers at.
const unroutable = "198.51.100.7"

func TestModes(t *testing.T) {
	kubelet := echo(t, "127.0.0.1:0", "the kubelet")
	// Addresses of the loopback network stand for those of pods and the like,
	// which only the node could reach.
	pod, host, service := echo(t, "127.42.1.5:0", "a pod"), echo(t, "127.0.7.1:0", "a pod on the host's network"), echo(t, "127.43.0.9:0", "a Service")
	secret := echo(t, "127.0.7.1:0", "a service of the host")
	hostPod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "edge", HostNetwork: true,
		Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: int32(host.Port())}}}}}}
	const direct = "directly"
	tests := []struct {
		what, address string
		answer        map[Mode]string // direct where no tunnel is used; "" for a refusal
	}{
		{"the kubelet by the node's address", net.JoinHostPort(unroutable, "10250"), map[Mode]string{ModeAgent: "the kubelet", ModePod: "the kubelet", ModeCluster: "the kubelet"}},
		{"the kubelet by the node's name", "EDGE:10250", map[Mode]string{ModeAgent: "the kubelet", ModePod: "the kubelet", ModeCluster: "the kubelet"}},
		{"a pod", pod.String(), map[Mode]string{ModeAgent: direct, ModePod: "a pod", ModeCluster: "a pod"}},
		{"a pod on the host's network", host.String(), map[Mode]string{ModeAgent: direct, ModePod: "a pod on the host's network", ModeCluster: "a pod on the host's network"}},
		{"a service of the host", secret.String(), map[Mode]string{ModeAgent: direct, ModePod: "", ModeCluster: ""}},
		{"a Service", service.String(), map[Mode]string{ModeAgent: direct, ModePod: direct, ModeCluster: "a Service"}},
		{"something outside", net.JoinHostPort("203.0.113.9", "443"), map[Mode]string{ModeAgent: direct, ModePod: direct, ModeCluster: direct}},
		{"a name outside", "hooks.example.com:443", map[Mode]string{ModeAgent: direct, ModePod: direct, ModeCluster: direct}},
	}
	for _, mode := range []Mode{ModeAgent, ModePod, ModeCluster} {
		t.Run(string(mode), func(t *testing.T) {
			p := connectedPair(t, settings{mode: mode, kubelet: kubelet, pods: []*corev1.Pod{hostPod},
				objects: []*corev1.Node{object("edge", "127.42.1.0/24", 10250, unroutable, "127.0.7.1")}})
			p.server.direct = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New(direct) }
			for _, tt := range tests {
				got, err := whoAnswers(t.Context(), p.server, tt.address)
				if err != nil && err.Error() == direct {
					got, err = direct, nil
				}
				if want := tt.answer[mode]; got != want || (want != "") != (err == nil) {
					t.Errorf("%s: %q (%v), want %q", tt.what, got, err, want)
				}
			}
		})
	}
}

func TestTheServersOwnNodeIsReachedDirectly(t *testing.T) {
	kubelet := echo(t, "127.0.0.1:0", "the kubelet")
	p := connectedPair(t, settings{mode: ModeCluster, kubelet: kubelet, local: "edge",
		objects: []*corev1.Node{object("edge", "127.42.1.0/24", int32(kubelet.Port()), "127.0.0.1")}})
	p.server.direct = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("directly") }
	for _, address := range []string{kubelet.String(), "127.42.1.3:80"} {
		if got, err := whoAnswers(t.Context(), p.server, address); err == nil || err.Error() != "directly" {
			t.Errorf("%s: %q (%v)", address, got, err)
		}
	}
}

func TestANodeWithoutATunnelIsReachedDirectly(t *testing.T) {
	other := echo(t, "127.0.0.1:0", "another node's kubelet")
	p := connectedPair(t, settings{mode: ModeAgent, objects: []*corev1.Node{
		object("edge", "10.42.0.0/24", 10250, unroutable), object("other", "10.42.1.0/24", int32(other.Port()), "127.0.0.1")}})
	if got, err := whoAnswers(t.Context(), p.server, other.String()); err != nil || got != "another node's kubelet" {
		t.Errorf("%q (%v) answers", got, err)
	}
}

func TestDataPassesWholeInBothDirections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: l.Addr().(*net.TCPAddr).AddrPort(), objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent := make([]byte, 4<<20)
			rand.Read(sent)
			go func() { _, _ = c.Write(sent) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("what came back is not what was sent (%v)", err)
			}
		})
	}
	wg.Wait()
}

// An answer is complete though its sender ends the connection at once, and
// does not wait for the other side to end its half.
func TestTheLastWordsOfANodeArrive(t *testing.T) {
	said := strings.Repeat("all of it ", 50_000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, said)
			c.Close()
		}
	}()
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: l.Addr().(*net.TCPAddr).AddrPort(), objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	for range 20 {
		c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != said {
			t.Fatalf("%d of %d bytes arrived (%v)", len(got), len(said), err)
		}
		c.Close()
	}
}

// A reader that has stopped, as `kubectl logs | less` does, must not hold up
// the others.
func TestAStreamThatNobodyReadsHoldsUpNoOther(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for chunk := make([]byte, 64<<10); ; {
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}()
		}
	}()
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: l.Addr().(*net.TCPAddr).AddrPort(), objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	for range 20 {
		c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.CopyN(io.Discard, c, 16<<20); err != nil {
		t.Errorf("only %d bytes arrived beside streams that nobody reads: %v", n, err)
	}
}

func TestTheEndOfAConnectionIsPassedOn(t *testing.T) {
	ends := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all, _ := io.ReadAll(c)
			ends <- string(all)
			c.Close()
		}
	}()
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: l.Addr().(*net.TCPAddr).AddrPort(), objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "last words"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case got := <-ends:
		if got != "last words" {
			t.Errorf("%q arrived before the end", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end did not arrive")
	}
}

func TestDeadlinesAndRefusals(t *testing.T) {
	closed := echo(t, "127.0.0.1:0", "")
	l, err := net.Listen("tcp", closed.String())
	if err == nil {
		l.Close()
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: silent.Addr().(*net.TCPAddr).AddrPort(), objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read past its deadline gives %v", err)
	}
	c.SetReadDeadline(time.Time{})
	c.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("still alive")); err != nil {
		t.Errorf("after a deadline, a write gives %v", err)
	}

	silent.Close()
	_, err = p.server.DialContext(t.Context(), "tcp", "edge:10250")
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "node edge") {
		t.Errorf("a kubelet that does not run gives %v", err)
	}
	// What is refused costs the one connection and not the tunnel.
	s := p.server.session("edge")
	if _, err := s.dial(t.Context(), "127.0.0.1:22", ""); err == nil || !strings.Contains(err.Error(), "kubelet only") {
		t.Errorf("asking for another port gives %v", err)
	}
	if p.server.session("edge") != s {
		t.Error("the tunnel ended over a refusal")
	}
}

func TestWhoMayConnect(t *testing.T) {
	p := connectedPair(t, settings{mode: ModeAgent, objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	get := func(certs []tls.Certificate, h2 bool, header http.Header) (int, string) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}, ForceAttemptHTTP2: h2}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.at+protocol.PathConnect, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	load := func(cert, key string) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	node, admin := load(p.node.Kubelet.Cert, p.node.Kubelet.Key), load(p.files.Admin.Cert, p.files.Admin.Key)
	asks := http.Header{"Connection": {"Upgrade"}, "Upgrade": {upgrade}}
	for _, tt := range []struct {
		name   string
		certs  []tls.Certificate
		h2     bool
		header http.Header
		want   int
	}{
		{"without a certificate", nil, false, asks, 401},
		{"as the administrator, who is no node", admin, false, asks, 401},
		{"without an upgrade", node, false, http.Header{}, 426},
		{"by HTTP/2, which has no upgrades", node, true, http.Header{}, 426},
	} {
		if got, body := get(tt.certs, tt.h2, tt.header); got != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, got, body, tt.want)
		}
	}
}

// An impostor with a certificate of the cluster that is not a server's, such
// as a kubelet's, must not be taken for a server.
func TestAnAgentConnectsToServersOnly(t *testing.T) {
	files, node := authorities(t, "edge")
	impostor := files
	impostor.Serving = node.Serving
	reached := make(chan struct{}, 1)
	at, _ := serve(t, impostor, "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	a := NewAgent(AgentConfig{ServerCA: node.ServerCA, Cert: node.Kubelet.Cert, Key: node.Kubelet.Key}, quiet())
	_, err := a.connect(t.Context(), at)
	if err == nil || !strings.Contains(err.Error(), serverName) {
		t.Errorf("connecting gives %v", err)
	}
	select {
	case <-reached:
		t.Error("the impostor got a request")
	default:
	}
}

func TestReconnecting(t *testing.T) {
	kubelet := echo(t, "127.0.0.1:0", "the kubelet")
	p := connectedPair(t, settings{mode: ModeAgent, kubelet: kubelet, objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	first := p.server.session("edge")
	c, err := p.server.DialContext(t.Context(), "tcp", "edge:10250")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	// What is asked for while the tunnel is down is served when it is up.
	first.conn.Close()
	await(t, func() bool { return !p.server.connected("edge") }, "the tunnel is down")
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("a connection that broke ends as if its peer had closed it")
	}
	p.server.direct = func(ctx context.Context, _, _ string) (net.Conn, error) { // packets are dropped
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if got, err := whoAnswers(t.Context(), p.server, "edge:10250"); err != nil || got != "the kubelet" {
		t.Errorf("%q (%v) answers", got, err)
	}

	// A newer connection is used though the older one is still there.
	second := p.server.session("edge")
	twin := NewAgent(p.agent.cfg, quiet())
	stopTwin := run(t, twin)
	await(t, func() bool { return p.server.session("edge") != second }, "the second connection is there")
	p.stop()
	if got, err := whoAnswers(t.Context(), p.server, "edge:10250"); err != nil || got != "the kubelet" {
		t.Errorf("%q (%v) answers", got, err)
	}
	twin.SetServers(nil)
	await(t, func() bool { return !p.server.connected("edge") }, "the agent has given up a server that left")
	stopTwin()
}

// A server behind an address translator may be listed with an address that
// nobody outside can use.
func TestTheServerThatTheAgentKnewIsTheLastResort(t *testing.T) {
	t.Parallel()
	p := connectedPair(t, settings{mode: ModeAgent, objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	p.stop()
	await(t, func() bool { return !p.server.connected("edge") }, "the agent has gone")
	cfg := p.agent.cfg
	cfg.Servers, cfg.Fallback = []string{"127.0.0.1:1"}, p.at
	began := time.Now()
	a := NewAgent(cfg, quiet())
	run(t, a)
	await(t, func() bool { return p.server.connected("edge") }, "the agent is connected by the last resort")
	if d := time.Since(began); d < patience {
		t.Errorf("the last resort came after %v", d)
	}
	last := p.server.session("edge")
	a.SetServers([]string{p.at})
	select {
	case <-last.conn.closed:
	case <-time.After(10 * time.Second):
		t.Error("the last resort is still in use")
	}
	await(t, func() bool { return p.server.connected("edge") }, "the tunnel of the list is there")
}

func TestEndpointOfAnExpiredCertificate(t *testing.T) {
	p := connectedPair(t, settings{mode: ModeAgent, objects: []*corev1.Node{object("edge", "10.42.0.0/24", 10250, unroutable)}})
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far)
	cert, err := tls.LoadX509KeyPair(p.node.Kubelet.Cert, p.node.Kubelet.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := *cert.Leaf
	leaf.NotAfter = time.Now().Add(50 * time.Millisecond)
	state := &tls.ConnectionState{}
	state.PeerCertificates = append(state.PeerCertificates, &leaf)
	done := make(chan error, 1)
	go func() { done <- p.server.serve("old", near, state) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the connection outlives the certificate")
	}
}

func TestAnAddressThatTwoNodesClaim(t *testing.T) {
	nodes := newNodes(quiet())
	born := time.Now()
	for _, order := range [][]string{{"first", "second"}, {"second", "first"}} {
		for _, name := range order {
			n := read(object(name, "10.42.0.0/24", 0, "192.0.2.1"))
			if n.born = born; name == "second" {
				n.born = born.Add(time.Hour)
			}
			nodes.set(n)
		}
		if n, ok := nodes.at("192.0.2.1"); !ok || n.name != "first" {
			t.Errorf("the address is taken for %q's, want the older node's", n.name)
		}
		if n, _ := nodes.at("::ffff:192.0.2.1"); n.name != "first" || n.kubeletPort != "10250" {
			t.Errorf("another spelling of the address gives %+v", n)
		}
	}
	nodes.forget("first")
	if n, _ := nodes.at("192.0.2.1"); n.name != "second" {
		t.Errorf("after the older node has gone, the address is %q's", n.name)
	}
	if name, ok := nodes.ofPod(netip.MustParseAddr("10.42.0.9")); !ok || name != "second" {
		t.Errorf("a pod's address is %q's", name)
	}
}
