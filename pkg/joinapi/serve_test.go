package joinapi

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// bareAPI has tokens and a list of servers, and no API server behind it.
func bareAPI(t *testing.T) *API {
	t.Helper()
	dir := t.TempDir()
	l := layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")}
	log := logrus.New()
	log.SetOutput(io.Discard)
	certs, err := pki.Ensure(pki.Config{Server: &pki.ServerConfig{Layout: l}}, time.Now(), log.WithField("component", "certificates"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.Server(), 0o700); err != nil {
		t.Fatal(err)
	}
	given, err := token.Parse("password")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.Open(l, certs.Authorities.Server.Bundle, token.Given{Server: given})
	if err != nil {
		t.Fatal(err)
	}
	s := &servers{self: "192.0.2.1:6443", changed: make(chan struct{})}
	s.set(nil)
	running, end := context.WithCancel(t.Context())
	return &API{
		running: running, end: end,
		cfg: Config{Tokens: tokens, Authorities: certs.Current, Serving: certs.Serving}, log: log.WithField("component", "join"),
		servers: s, limit: newLimiter(), reads: make(slots, 1), writes: make(slots, 1), waits: make(slots, 1),
		ready: make(chan struct{}),
	}
}

func TestMoreThanCanBeWorkedOnIsSentAway(t *testing.T) {
	a := bareAPI(t)
	ask := func() (*httptest.ResponseRecorder, protocol.Refusal) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, protocol.PathServers, nil)
		r.SetBasicAuth("node", "password")
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		var no protocol.Refusal
		_ = json.Unmarshal(w.Body.Bytes(), &no) // only refusals have it
		return w, no
	}
	if w, no := ask(); w.Code != http.StatusServiceUnavailable || no.Reason != protocol.ReasonBusy || w.Header().Get("Retry-After") == "" {
		t.Errorf("before it is ready: %d %s", w.Code, w.Body)
	}
	close(a.ready)
	if w, _ := ask(); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	a.waits.take()
	if w, no := ask(); w.Code != http.StatusServiceUnavailable || no.Reason != protocol.ReasonBusy || w.Header().Get("Retry-After") == "" {
		t.Errorf("with every place taken: %d %s", w.Code, w.Body)
	}
	a.waits.free()
	if w, _ := ask(); w.Code != http.StatusOK {
		t.Errorf("with a place free again: %d %s", w.Code, w.Body)
	}
}

func TestHandlersAreForNodesWithACertificate(t *testing.T) {
	a := bareAPI(t)
	close(a.ready)
	a.cfg.Handlers = map[string]http.Handler{protocol.PathConnect: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, protocol.NodeFrom(r.Context()))
	})}
	for _, tt := range []struct {
		name string
		c    caller
		want bool
	}{{"a node", caller{node: "edge"}, true}, {"a token", caller{role: token.Node}, false}, {"the server token", caller{role: token.Server}, false}, {"an administrator", caller{admin: true}, false}} {
		rt, known := a.routes(protocol.PathConnect)
		if !known || tt.c.among(rt.who) != tt.want {
			t.Errorf("%s is let in: %v", tt.name, !tt.want)
		}
	}
	r := httptest.NewRequestWithContext(protocol.WithNode(t.Context(), "edge"), http.MethodGet, protocol.PathConnect, nil)
	w := httptest.NewRecorder()
	rt, _ := a.routes(protocol.PathConnect)
	rt.raw.ServeHTTP(w, r)
	if w.Body.String() != "edge" {
		t.Errorf("the handler is told of %q", w.Body)
	}
}

func TestNewsOfServersIsWaitedFor(t *testing.T) {
	a := bareAPI(t)
	close(a.ready)
	poll := func(after string) <-chan *httptest.ResponseRecorder {
		done := make(chan *httptest.ResponseRecorder, 1)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, protocol.PathServers+"?"+protocol.QueryAfter+"="+after, nil)
		r.SetBasicAuth("node", "password")
		go func() {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			done <- w
		}()
		return done
	}
	list := func(w *httptest.ResponseRecorder) (s protocol.Servers) {
		t.Helper()
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		return s
	}
	first := list(<-poll(""))
	waiting := poll(first.Version)
	select {
	case w := <-waiting:
		t.Fatalf("answered without news: %s", w.Body)
	case <-time.After(50 * time.Millisecond):
	}
	a.servers.set([]string{"192.0.2.1:6443", "192.0.2.2:6443"})
	second := list(<-waiting)
	if len(second.Servers) != 2 || second.Version == first.Version {
		t.Errorf("the news is %+v", second)
	}
	// A server that stops lets everybody go.
	waiting = poll(second.Version)
	a.end()
	if w := <-waiting; w.Code != http.StatusServiceUnavailable {
		t.Errorf("while stopping: %d %s", w.Code, w.Body)
	}
}

// TestABodyThatDoesNotEnd has one that stays when the server stops, over HTTP/1,
// where net/http wants to read it to its end before it answers.
func TestABodyThatDoesNotEnd(t *testing.T) {
	for name, header := range map[string]string{"with a credential": "Authorization: Basic bm9kZTpwYXNzd29yZA==\r\n", "without": ""} {
		t.Run(name, func(t *testing.T) {
			a := bareAPI(t)
			close(a.ready)
			server := httptest.NewServer(a)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST "+protocol.PathNode+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"+header+"\r\n{"); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				t.Errorf("answered with %q before its time", line)
			}
			a.end()
			_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout / 2))
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 4") {
				t.Errorf("answered with %q, %v", line, err)
			}
		})
	}
}
