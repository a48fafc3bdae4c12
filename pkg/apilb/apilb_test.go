package apilb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// api is a TLS server that says its name, and streams lines at /stream.
type api struct {
	*httptest.Server
	name    string
	address string
}

func startAPI(t *testing.T, name, address string) *api {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	a := &api{name: name, address: l.Addr().String()}
	a.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			io.WriteString(w, name)
			return
		}
		lines := bufio.NewScanner(r.Body)
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for lines.Scan() {
			io.WriteString(w, name+" "+lines.Text()+"\n")
			w.(http.Flusher).Flush()
		}
	})}}
	a.EnableHTTP2 = false
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.StartTLS()
	return a
}

// kill is what the kernel does to the connections of a process that dies.
func (a *api) kill() {
	a.Listener.Close()
	a.CloseClientConnections()
	a.Config.Close()
}

func threeAPIs(t *testing.T) (apis []*api, addresses []string) {
	t.Helper()
	for _, name := range []string{"one", "two", "three"} {
		a := startAPI(t, name, "127.0.0.1:0")
		t.Cleanup(a.kill)
		apis, addresses = append(apis, a), append(addresses, a.address)
	}
	return apis, addresses
}

// start runs a balancer until the test ends.
func start(t *testing.T, b *Balancer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- b.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// clients are ways to the servers: through the port, and inside the process.
func clients(t *testing.T, b *Balancer) map[string]*http.Client {
	t.Helper()
	all := map[string]*http.Client{}
	var d net.Dialer
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){"by the port": d.DialContext, "in the process": b.DialContext} {
		tr := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		t.Cleanup(tr.CloseIdleConnections)
		all[name] = &http.Client{Transport: tr, Timeout: 20 * time.Second}
	}
	return all
}

// who asks for the name of the server on a new connection.
func who(t *testing.T, c *http.Client, port netip.AddrPort) string {
	t.Helper()
	name, err := ask(c, port)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func ask(c *http.Client, port netip.AddrPort) (string, error) {
	c.CloseIdleConnections()
	resp, err := c.Get("https://" + port.String() + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// stream is a long-lived request, such as a watch.
type stream struct {
	in  *io.PipeWriter
	out *bufio.Reader
}

func openStream(t *testing.T, c *http.Client, port netip.AddrPort) *stream {
	t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+port.String()+"/stream", r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		resp.Body.Close()
	})
	return &stream{w, bufio.NewReader(resp.Body)}
}

// says is the name of the server at the other end.
func (s *stream) says() (string, error) {
	if _, err := io.WriteString(s.in, "hello\n"); err != nil {
		return "", err
	}
	line, err := s.out.ReadString('\n')
	name, _, _ := strings.Cut(line, " ")
	return name, err
}

func TestAServerThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	apis, addresses := threeAPIs(t)
	port := freePort(t)
	b := New(Config{Listen: port}, quiet())
	b.SetServers(addresses)
	start(t, b)
	whole := t
	for name, client := range clients(t, b) {
		t.Run(name, func(t *testing.T) {
			first := who(t, client, port)
			for range 5 {
				if again := who(t, client, port); again != first {
					t.Fatalf("moved from %s to %s without need", first, again)
				}
			}
			victim := apis[slices.IndexFunc(apis, func(a *api) bool { return a.name == first })]
			s := openStream(t, client, port)
			if got, err := s.says(); got != first || err != nil {
				t.Fatalf("the stream is with %q (%v), want %s", got, err, first)
			}
			victim.kill()
			if got, err := s.says(); err == nil {
				t.Fatalf("the stream goes on with %q after its server died", got)
			}
			second := who(t, client, port)
			if second == first {
				t.Fatalf("%s answers after it was killed", first)
			}
			// What runs with the second server must not notice that the first one comes back.
			s = openStream(t, client, port)
			revived := startAPI(t, first, victim.address)
			whole.Cleanup(revived.kill)
			*victim = *revived
			waitUntil(t, func() bool { return b.healthy() == len(apis) }, "all servers are taken for healthy again")
			if got, err := s.says(); got != second || err != nil {
				t.Fatalf("the stream is with %q (%v), want %s", got, err, second)
			}
			if third := who(t, client, port); third != second {
				t.Fatalf("moved back from %s to %s without need", second, third)
			}
		})
	}
}

func (b *Balancer) healthy() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if s.failures == 0 {
			n++
		}
	}
	return n
}

// known are the servers of the list, or of the seed while there is no list.
func (b *Balancer) known() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	byRole := map[role][]string{}
	for _, s := range b.servers {
		byRole[s.role] = append(byRole[s.role], s.address)
	}
	if len(byRole[listed]) > 0 {
		return byRole[listed]
	}
	return byRole[seed]
}

func waitUntil(t *testing.T, ok func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain until " + what)
		}
	}
}

func TestAllServersDeadAndBack(t *testing.T) {
	t.Parallel()
	apis, addresses := threeAPIs(t)
	port := freePort(t)
	b := New(Config{Listen: port}, quiet())
	b.SetServers(addresses)
	start(t, b)
	for _, a := range apis {
		a.kill()
	}
	for name, client := range clients(t, b) {
		began := time.Now()
		_, err := ask(client, port)
		if err == nil {
			t.Errorf("%s: a dead server answers", name)
		}
		if d := time.Since(began); d > stagger {
			t.Errorf("%s: it took %v to find out that all ports are closed", name, d)
		}
	}
	_, err := b.DialContext(t.Context(), "tcp", "kubernetes:443")
	for _, a := range addresses {
		if err == nil || !strings.Contains(err.Error(), a) {
			t.Errorf("the error %v does not say what is wrong with %s", err, a)
		}
	}
	back := startAPI(t, "back", addresses[1])
	t.Cleanup(back.kill)
	for name, client := range clients(t, b) {
		if got, err := ask(client, port); got != "back" || err != nil {
			t.Errorf("%s: %q (%v) answers, want the server that is back", name, got, err)
		}
	}
}

func TestTheListOutlivesTheProcess(t *testing.T) {
	_, addresses := threeAPIs(t)
	file := filepath.Join(t.TempDir(), "servers.json")
	b := New(Config{File: file, Seed: []string{"127.0.0.1:1"}}, quiet())
	if got := b.known(); !slices.Equal(got, []string{"127.0.0.1:1"}) {
		t.Errorf("before the first list, the servers are %v", got)
	}
	b.SetServers(append(slices.Clone(addresses), addresses[0], "no port", ":6443"))
	b.SetServers(nil)
	again := New(Config{File: file, Seed: []string{"127.0.0.1:1"}}, quiet())
	if got := slices.Sorted(slices.Values(again.known())); !slices.Equal(got, slices.Sorted(slices.Values(addresses))) {
		t.Errorf("after a restart, the servers are %v, want %v", got, addresses)
	}
	c, err := again.DialContext(t.Context(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !slices.Contains(addresses, c.RemoteAddr().String()) {
		t.Errorf("connected to %v, which is not in the list", c.RemoteAddr())
	}

	for name, content := range map[string]string{"no JSON": "{", "a bad address": `{"servers":["x"]}`} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		broken := New(Config{File: file, Seed: []string{addresses[0]}}, quiet())
		if got := broken.known(); !slices.Equal(got, addresses[:1]) {
			t.Errorf("%s: the servers are %v, want the seed", name, got)
		}
	}
}

func TestTheSeedIsTheLastResort(t *testing.T) {
	apis, addresses := threeAPIs(t)
	b := New(Config{Seed: []string{addresses[0]}}, quiet())
	b.SetServers(addresses[1:])
	start(t, b)
	client := clients(t, b)["in the process"]
	port := netip.MustParseAddrPort("127.0.0.1:1") // has no say
	if got := who(t, client, port); got == "one" {
		t.Error("the seed is used though a server of the list answers")
	}
	apis[1].kill()
	apis[2].kill()
	if got := who(t, client, port); got != "one" {
		t.Errorf("%s answers, want the seed", got)
	}
}

func TestNoServerIsKnown(t *testing.T) {
	_, err := New(Config{}, quiet()).DialContext(t.Context(), "tcp", "")
	if err == nil || !strings.Contains(err.Error(), "--server") {
		t.Errorf("the error %v does not say what to do", err)
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = New(Config{Listen: l.Addr().(*net.TCPAddr).AddrPort()}, quiet()).Run(t.Context(), func() { t.Error("ready without a port") })
	if err == nil || !strings.Contains(err.Error(), "--lb-server-port") {
		t.Errorf("the error %v does not say what to do", err)
	}
}

// A server that is overloaded or hangs accepts connections and says nothing.
func TestAServerThatAcceptsAndSaysNothing(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	well := startAPI(t, "well", "127.0.0.1:0")
	t.Cleanup(well.kill)
	b := New(Config{}, quiet())
	b.SetServers([]string{hung.Addr().String()})
	start(t, b)
	watch, err := b.DialContext(t.Context(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	b.SetServers([]string{hung.Addr().String(), well.address})
	b.suspect(b.current)
	// The client that waits is told, and the next one gets the other server.
	watch.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := watch.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a server that hangs gives %v", err)
	}
	if got := who(t, clients(t, b)["in the process"], netip.MustParseAddrPort("127.0.0.1:1")); got != "well" {
		t.Errorf("%s answers", got)
	}
}

func TestHalfClosedConnectionsPassData(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // until the client has closed its half
		c.Write(append([]byte("got "), all...))
	}()
	port := freePort(t)
	b := New(Config{Listen: port, Seed: []string{l.Addr().String()}}, quiet())
	start(t, b)
	c, err := net.Dial("tcp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	big := strings.Repeat("x", 1<<20)
	if _, err := io.WriteString(c, big); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "got "+big {
		t.Errorf("%d bytes came back (%v), want %d", len(got), err, len(big)+4)
	}
}
