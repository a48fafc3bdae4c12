package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServersAreURLs(t *testing.T) {
	for text, want := range map[string]string{
		"https://192.0.2.1:6443":  "192.0.2.1:6443",
		"https://192.0.2.1":       "192.0.2.1:6443",
		"https://example.test/":   "example.test:6443",
		"https://[2001:db8::1]:1": "[2001:db8::1]:1",
		"https://[2001:db8::1]":   "[2001:db8::1]:6443",
		"http://192.0.2.1:6443":   "",
		"192.0.2.1:6443":          "",
		"https://":                "",
		"https://a/path":          "",
		"https://user:pw@a":       "",
		"https://a?b=c":           "",
	} {
		got, err := hostPort(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}

// stranger is a server that is not Skiff's: everything it is sent is noted.
type stranger struct {
	*httptest.Server
	ca []byte

	mu   sync.Mutex
	seen []string // of headers and bodies, where a credential would be
}

func newStranger(t *testing.T, answer http.HandlerFunc) *stranger {
	t.Helper()
	s := &stranger{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		s.mu.Unlock()
		if r.URL.Path == protocol.PathCACerts {
			_, _ = w.Write(s.ca)
			return
		}
		answer(w, r)
	}))
	cert := makeCA(t)
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *stranger) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

func testConfig(t *testing.T, tok token.Token, servers ...string) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{
		Servers: servers, Token: tok, NodeName: "edge", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, APIServer: "https://127.0.0.1:6444",
		Layout: layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")},
	}
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log.WithField("component", "join")
}

const secret = "the-secret-of-the-cluster"

func TestACredentialGoesToNobodyElse(t *testing.T) {
	other := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	redirects := newStranger(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	hash, err := token.HashCA(redirects.ca)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, token.Password(hash, token.UserNode, secret), redirects.URL)
	if _, err := Join(t.Context(), cfg, quiet()); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
	if got := redirects.requests(); len(got) != 2 || !strings.Contains(got[1], "Basic ") {
		t.Errorf("the server of the cluster was sent %q", got)
	}
	if got := other.requests(); len(got) > 0 {
		t.Errorf("another server was sent %q", got)
	}

	// The hash is of another CA: nothing but the CA was asked for.
	impostor := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	cfg = testConfig(t, token.Password(strings.Repeat("ab", 32), token.UserNode, secret), impostor.URL)
	var mismatch *token.MismatchError
	if _, err := Join(t.Context(), cfg, quiet()); !errors.As(err, &mismatch) || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
	if got := impostor.requests(); len(got) != 1 || got[0] != "GET "+protocol.PathCACerts+"  " {
		t.Errorf("the impostor was sent %q", got)
	}

	// The right CA, handed on by somebody who has no certificate of it.
	relay := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	relay.ca = redirects.ca
	if hash, err = token.HashCA(relay.ca); err != nil {
		t.Fatal(err)
	}
	cfg = testConfig(t, token.Password(hash, token.UserNode, secret), relay.URL)
	if _, err := Join(t.Context(), cfg, quiet()); err == nil || !strings.Contains(err.Error(), "not signed by the cluster's CA") {
		t.Errorf("got %v", err)
	}
	if got := relay.requests(); len(got) != 1 {
		t.Errorf("the relay was sent %q", got)
	}
}

// makeCA makes a CA that is a server's certificate, too.
func makeCA(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the cluster's"}, IsCA: true, BasicConstraintsValid: true,
		DNSNames:  []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAnswersThatAreNoneEndJoining(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a web page":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "is not what a skiff server says"},
		"nothing in it": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "without a cluster configuration"},
		"no certificates": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"cluster":{"servers":["a:1"]}}`))
		}, "without certificates"},
		"bad certificates": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"certificates":{},"cluster":{"servers":["a:1"]}}`))
		}, "none for this node's key"},
		"too much":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxAnswer+1)) }, "larger than"},
		"a path unknown": {http.NotFound, "is it a skiff server?"},
		"a refusal in words": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":"no, do this","reason":"node-password"}`))
		}, "refused: no, do this"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStranger(t, tt.answer)
			cfg := testConfig(t, mustParse(t, secret), s.URL)
			if _, err := Join(t.Context(), cfg, quiet()); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(pki.NodeFilesOf(cfg.Layout).Kubelet.Key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was left: %v", err)
			}
		})
	}
}

func mustParse(t *testing.T, text string) token.Token {
	t.Helper()
	tok, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	var mu sync.Mutex
	left := 2
	s := newStranger(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left >= 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusTooManyRequests}[left])
			return
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"error":"in the end","reason":"version"}`))
	})
	_, err := Join(t.Context(), testConfig(t, mustParse(t, secret), s.URL), quiet())
	refusal, ok := errors.AsType[*RefusedError](err)
	if !ok || refusal.Reason != protocol.ReasonVersion || !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Join(ctx, testConfig(t, mustParse(t, secret), "https://127.0.0.1:1"), quiet()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestLoadWantsAllOfIt(t *testing.T) {
	cfg := testConfig(t, token.Token{})
	if _, err := Load(cfg.Layout, "edge", time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before joining: %v", err)
	}
	if err := os.MkdirAll(cfg.Layout.Agent(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := save(cfg.Layout, "edge", protocol.ClusterConfig{Servers: []string{"a:1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cfg.Layout, "edge", time.Now()); err == nil {
		t.Error("without certificates")
	}
	if _, err := Load(cfg.Layout, "other", time.Now()); err == nil || !strings.Contains(err.Error(), "joined as node edge") {
		t.Errorf("under another name: %v", err)
	}
	if err := os.WriteFile(cfg.Layout.ClusterConfig(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cfg.Layout, "edge", time.Now()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
}
