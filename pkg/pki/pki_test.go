package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var birthday = time.Date(2026, time.October, 1, 12, 0, 0, 0, time.UTC)

func discard() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log.WithField("component", "certificates")
}

// testConfig is a server with a node part at 192.0.2.7.
func testConfig(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	l := layout.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run"), Config: filepath.Join(dir, "etc")}
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	return Config{
		Server: &ServerConfig{
			Layout: l,
			Listener: config.Listener{
				Port: 6443, AdvertiseAddress: netip.MustParseAddr("198.51.100.4"),
				TLSSANs: []string{"api.example.org", "203.0.113.9"},
			},
			ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd43::/112")},
			ClusterDomain: "cluster.local",
			Names:         []string{"box", "Box.example.org"},
			Addresses:     addresses,
		},
		Node: &NodeConfig{Layout: l, Name: "box", Addresses: addresses, APIServer: "https://127.0.0.1:6443"},
	}
}

func ensure(t *testing.T, cfg Config, now time.Time) *Certificates {
	t.Helper()
	certs, err := Ensure(cfg, now, discard())
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseCerts(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// snapshot has each file's content, mode and time of change.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = info.Mode().String() + info.ModTime().String() + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryCertificateVerifiesForItsUse(t *testing.T) {
	cfg := testConfig(t)
	a := ensure(t, cfg, birthday).Authorities
	server, node := ServerFilesOf(cfg.Server.Layout), NodeFilesOf(cfg.Node.Layout)
	tests := []struct {
		name    string
		files   CertKey
		ca      *Authority
		usage   x509.ExtKeyUsage
		subject string
		calls   []string // names under which the server is called
	}{
		{"the API server's", server.Serving, a.Server, x509.ExtKeyUsageServerAuth, "CN=kube-apiserver", []string{
			"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local", "10.43.0.1", "fd43::1", "box", "box.example.org", "192.0.2.7",
			"198.51.100.4", "api.example.org", "203.0.113.9"}},
		{"the kubelet's", node.Serving, a.Server, x509.ExtKeyUsageServerAuth, "CN=system:node:box,O=system:nodes",
			[]string{"box", "192.0.2.7", "127.0.0.1", "localhost"}},
		{"the administrator's", server.Admin, a.Client, x509.ExtKeyUsageClientAuth, "CN=system:admin,O=system:masters", nil},
		{"the API server's to kubelets", server.KubeletClient, a.Client, x509.ExtKeyUsageClientAuth, "CN=kube-apiserver-kubelet-client", nil},
		{"the front proxy's", server.AuthProxy, a.RequestHeader, x509.ExtKeyUsageClientAuth, "CN=system:auth-proxy", nil},
		{"the kubelet's to the API", node.Kubelet, a.Client, x509.ExtKeyUsageClientAuth, "CN=system:node:box,O=system:nodes", nil},
		{"kube-proxy's", node.Proxy, a.Client, x509.ExtKeyUsageClientAuth, "CN=system:kube-proxy", nil},
		{"the node agent's", node.NodeAgent, a.Client, x509.ExtKeyUsageClientAuth, "CN=skiff:node:box,O=skiff:nodes", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cert := readCert(t, test.files.Cert)
			if _, err := tls.LoadX509KeyPair(test.files.Cert, test.files.Key); err != nil {
				t.Errorf("key and certificate: %v", err)
			}
			if got := cert.Subject.String(); got != test.subject {
				t.Errorf("subject %s, want %s", got, test.subject)
			}
			for _, ca := range []*Authority{a.Server, a.Client, a.RequestHeader} {
				_, err := cert.Verify(x509.VerifyOptions{Roots: ca.Pool(), CurrentTime: birthday, KeyUsages: []x509.ExtKeyUsage{test.usage}})
				if (err == nil) != (ca == test.ca) {
					t.Errorf("verifying against %s: %v", ca.Cert.Subject, err)
				}
			}
			other := x509.ExtKeyUsageServerAuth
			if test.usage == other {
				other = x509.ExtKeyUsageClientAuth
			}
			if _, err := cert.Verify(x509.VerifyOptions{Roots: test.ca.Pool(), CurrentTime: birthday, KeyUsages: []x509.ExtKeyUsage{other}}); err == nil {
				t.Error("it is good for both sides of a connection")
			}
			for _, name := range test.calls {
				if err := cert.VerifyHostname(name); err != nil {
					t.Errorf("called as %s: %v", name, err)
				}
			}
			if want := birthday.Add(-time.Hour); !cert.NotBefore.Equal(want) {
				t.Errorf("valid from %s, want %s", cert.NotBefore, want)
			}
			if want := birthday.Add(365 * 24 * time.Hour); !cert.NotAfter.Equal(want) {
				t.Errorf("valid until %s, want %s", cert.NotAfter, want)
			}
		})
	}
}

func TestSecretsAreRootsAlone(t *testing.T) {
	cfg := testConfig(t)
	if err := os.MkdirAll(cfg.Server.Layout.TLS(), 0o755); err != nil {
		t.Fatal(err)
	}
	ensure(t, cfg, birthday)
	for _, dir := range []string{cfg.Server.Layout.TLS(), cfg.Node.Layout.Agent()} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v (%v), want 0700", dir, info.Mode(), err)
		}
	}
	public := map[string]bool{".crt": true, ".pub": true}
	for path := range snapshot(t, filepath.Dir(cfg.Server.Layout.Data)) {
		want := fs.FileMode(0o600)
		if public[filepath.Ext(path)] {
			want = 0o644
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, want)
		}
	}
}

func TestASecondStartWritesNothing(t *testing.T) {
	cfg := testConfig(t)
	ensure(t, cfg, birthday)
	before := snapshot(t, filepath.Dir(cfg.Server.Layout.Data))
	dirs := dirTimes(t, cfg)
	certs := ensure(t, cfg, birthday.Add(200*24*time.Hour))
	after := snapshot(t, filepath.Dir(cfg.Server.Layout.Data))
	if len(before) != len(after) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s was written again", path)
		}
	}
	if got := dirTimes(t, cfg); got != dirs {
		t.Errorf("directories changed: %s, then %s", dirs, got)
	}
	if want := birthday.Add(365*24*time.Hour - (365*24+1)*time.Hour/3); certs.Due.Sub(want).Abs() > time.Second {
		t.Errorf("due %s, want %s", certs.Due, want)
	}
}

func dirTimes(t *testing.T, cfg Config) string {
	var times strings.Builder
	for _, dir := range []string{cfg.Server.Layout.TLS(), cfg.Node.Layout.Agent(), cfg.Server.Layout.Config} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		times.WriteString(info.ModTime().String())
	}
	return times.String()
}

func TestCertificatesAreIssuedAnewWhenTheyAreNotRightAnyMore(t *testing.T) {
	type files struct {
		server ServerFiles
		node   NodeFiles
	}
	tests := []struct {
		name   string
		change func(t *testing.T, cfg *Config, f files)
		after  time.Duration
		want   func(f files) []CertKey // issued anew; all others stay
	}{
		{name: "with less than a third of the lifetime left, all", after: 250 * 24 * time.Hour,
			want: func(f files) []CertKey {
				return []CertKey{f.server.Serving, f.server.Admin, f.server.KubeletClient, f.server.AuthProxy,
					f.node.Serving, f.node.Kubelet, f.node.Proxy, f.node.NodeAgent}
			}},
		{name: "after two years in a drawer, all", after: 2 * 365 * 24 * time.Hour,
			want: func(f files) []CertKey {
				return []CertKey{f.server.Serving, f.server.Admin, f.server.KubeletClient, f.server.AuthProxy,
					f.node.Serving, f.node.Kubelet, f.node.Proxy, f.node.NodeAgent}
			}},
		{name: "with a new --tls-san, the API server's",
			change: func(_ *testing.T, cfg *Config, _ files) {
				cfg.Server.Listener.TLSSANs = []string{"new.example.org"}
			},
			want: func(f files) []CertKey { return []CertKey{f.server.Serving} }},
		{name: "with another node address, the kubelet's",
			change: func(_ *testing.T, cfg *Config, _ files) {
				cfg.Node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
			},
			want: func(f files) []CertKey { return []CertKey{f.node.Serving} }},
		{name: "with another node name, the node's",
			change: func(_ *testing.T, cfg *Config, _ files) { cfg.Node.Name = "crate" },
			want:   func(f files) []CertKey { return []CertKey{f.node.Serving, f.node.Kubelet, f.node.NodeAgent} }},
		{name: "with a key cut short by a power cut, that one",
			change: func(t *testing.T, _ *Config, f files) { truncate(t, f.server.Admin.Key, 40) },
			want:   func(f files) []CertKey { return []CertKey{f.server.Admin} }},
		{name: "with an empty certificate, that one",
			change: func(t *testing.T, _ *Config, f files) { truncate(t, f.node.Proxy.Cert, 0) },
			want:   func(f files) []CertKey { return []CertKey{f.node.Proxy} }},
		{name: "with the key of another certificate, that one",
			change: func(t *testing.T, _ *Config, f files) {
				data, err := os.ReadFile(f.node.Proxy.Key)
				if err != nil {
					t.Fatal(err)
				}
				write(t, f.node.Kubelet.Key, data)
			},
			want: func(f files) []CertKey { return []CertKey{f.node.Kubelet} }},
		{name: "after the client CA was removed, the clients'",
			change: func(t *testing.T, _ *Config, f files) {
				remove(t, f.server.ClientCA.Cert)
				remove(t, f.server.ClientCA.Key)
			},
			want: func(f files) []CertKey {
				return []CertKey{f.server.ClientCA, f.server.Admin, f.server.KubeletClient, f.node.Kubelet, f.node.Proxy, f.node.NodeAgent}
			}},
		{name: "by a clock that has gone back behind its issue, all", after: -3 * time.Hour,
			want: func(f files) []CertKey {
				return []CertKey{f.server.Serving, f.server.Admin, f.server.KubeletClient, f.server.AuthProxy,
					f.node.Serving, f.node.Kubelet, f.node.Proxy, f.node.NodeAgent}
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig(t)
			ensure(t, cfg, birthday)
			f := files{ServerFilesOf(cfg.Server.Layout), NodeFilesOf(cfg.Node.Layout)}
			before := snapshot(t, cfg.Server.Layout.Data)
			if test.change != nil {
				test.change(t, &cfg, f)
			}
			now := birthday.Add(test.after)
			certs := ensure(t, cfg, now)
			if !certs.Due.After(now) {
				t.Errorf("due %s, which is not after %s", certs.Due, now)
			}
			after := snapshot(t, cfg.Server.Layout.Data)
			want := map[string]bool{}
			for _, pair := range test.want(f) {
				want[pair.Cert], want[pair.Key] = true, true
				if _, err := tls.LoadX509KeyPair(pair.Cert, pair.Key); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
			for path := range before {
				name := filepath.Base(path)
				if name == "client-ca.crt" || name == "client-ca.nochain.crt" { // copies follow the server's
					continue
				}
				if changed := before[path] != after[path]; changed != want[path] {
					t.Errorf("%s changed: %v, want %v", name, changed, want[path])
				}
			}
			admin := readCert(t, f.server.Admin.Cert)
			if _, err := admin.Verify(x509.VerifyOptions{Roots: certs.Authorities.Client.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Errorf("the administrator's certificate: %v", err)
			}
		})
	}
}

func TestACertificateDoesNotOutliveItsCAAndIsNotIssuedAllTheTimeAtItsEnd(t *testing.T) {
	cfg := testConfig(t)
	certs := ensure(t, cfg, birthday)
	end := certs.Authorities.Server.Cert.NotAfter
	now := end.Add(-24 * time.Hour)
	ensure(t, cfg, now)
	serving := ServerFilesOf(cfg.Server.Layout).Serving
	if got := readCert(t, serving.Cert).NotAfter; !got.Equal(end) {
		t.Errorf("valid until %s, want the CA's end %s", got, end)
	}
	now = end.Add(-time.Hour)
	before := snapshot(t, cfg.Server.Layout.Data)
	certs = ensure(t, cfg, now)
	if after := snapshot(t, cfg.Server.Layout.Data); after[serving.Cert] != before[serving.Cert] {
		t.Error("it was issued again although that makes it no longer valid")
	}
	if certs.Due.Before(now.Add(time.Hour)) {
		t.Errorf("due again at %s, %s later", certs.Due, certs.Due.Sub(now))
	}
	if _, err := Ensure(cfg, end.Add(time.Hour), discard()); err == nil || !strings.Contains(err.Error(), "expired at 2036") {
		t.Errorf("after the CA's end: %v", err)
	}
}

func TestACertificateIsNotOlderThanItsCA(t *testing.T) {
	cfg := testConfig(t)
	born := ensure(t, cfg, birthday).Authorities.Server.Cert.NotBefore
	now := born.Add(time.Minute) // by a clock that has gone back
	ensure(t, cfg, now)
	if got := readCert(t, ServerFilesOf(cfg.Server.Layout).Serving.Cert).NotBefore; !got.Equal(born) {
		t.Errorf("valid from %s, want the CA's birth %s", got, born)
	}
}

func TestDamagedFilesAreNamedWithTheirMend(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, f ServerFiles)
		want   []string
	}{
		{"a CA key cut short", func(t *testing.T, f ServerFiles) { truncate(t, f.ServerCA.Key, 30) },
			[]string{"server-ca cannot be used", "server-ca.key holds no whole private key in PEM form (it has 30 bytes)", "from a backup", "remove both"}},
		{"an empty CA certificate", func(t *testing.T, f ServerFiles) { truncate(t, f.ClientCA.Cert, 0) },
			[]string{"client-ca.crt holds no whole certificate", "remove both"}},
		{"a CA without its key", func(t *testing.T, f ServerFiles) { remove(t, f.RequestHeaderCA.Key) },
			[]string{"request-header-ca.key: no such file", "remove both"}},
		{"the key of another CA", func(t *testing.T, f ServerFiles) { copyFile(t, f.ClientCA.Key, f.ServerCA.Key) },
			[]string{"server-ca.key does not belong to", "server-ca.crt"}},
		{"a leaf instead of a CA", func(t *testing.T, f ServerFiles) {
			copyFile(t, f.Serving.Key, f.ServerCA.Key)
			copyFile(t, f.Serving.Cert, f.ServerCA.Cert)
		}, []string{"server-ca.crt is no CA certificate"}},
		{"one CA for clients and for the front proxy", func(t *testing.T, f ServerFiles) {
			copyFile(t, f.ClientCA.Key, f.RequestHeaderCA.Key)
			copyFile(t, f.ClientCA.Cert, f.RequestHeaderCA.Cert)
		}, []string{"are the same CA"}},
		{"a service-account key cut short", func(t *testing.T, f ServerFiles) { truncate(t, f.ServiceAccountKey, 99) },
			[]string{"service-account key cannot be used", "service.key", "restart all pods"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig(t)
			ensure(t, cfg, birthday)
			test.damage(t, ServerFilesOf(cfg.Server.Layout))
			before := snapshot(t, cfg.Server.Layout.Data)
			_, err := Ensure(cfg, birthday, discard())
			if err == nil {
				t.Fatal("nobody noticed")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "PRIVATE KEY") {
				t.Error("the message holds a key")
			}
			after := snapshot(t, cfg.Server.Layout.Data)
			for path := range before {
				if before[path] != after[path] && strings.Contains(path, "ca.") {
					t.Errorf("%s was changed", path)
				}
			}
		})
	}
}

func TestAFirstStartCutShortBetweenKeyAndCertificateIsFinished(t *testing.T) {
	cfg := testConfig(t)
	ensure(t, cfg, birthday)
	f := ServerFilesOf(cfg.Server.Layout)
	key, err := os.ReadFile(f.ServerCA.Key)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, f.ServerCA.Cert)
	a := ensure(t, cfg, birthday).Authorities
	if now, _ := os.ReadFile(f.ServerCA.Key); !bytes.Equal(now, key) {
		t.Error("the key was replaced")
	}
	if _, err := readCert(t, f.Serving.Cert).Verify(x509.VerifyOptions{Roots: a.Server.Pool(), CurrentTime: birthday}); err != nil {
		t.Error(err)
	}
}

// userCA makes an RSA CA the way a company's openssl would.
func userCA(t *testing.T, name string, parent *x509.Certificate, parentKey crypto.Signer, usage x509.KeyUsage) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(birthday.Unix()), Subject: pkix.Name{CommonName: name},
		NotBefore: birthday.Add(-1000 * time.Hour), NotAfter: birthday.Add(100000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: usage,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func placeCA(t *testing.T, files CertKey, key *rsa.PrivateKey, chain ...*x509.Certificate) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(files.Cert), 0o700); err != nil {
		t.Fatal(err)
	}
	var bundle []byte
	for _, cert := range chain {
		bundle = append(bundle, encodeCert(cert.Raw)...)
	}
	write(t, files.Cert, bundle)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := os.Chmod(files.Key, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAUsersIntermediateCAIsUsed(t *testing.T) {
	cfg := testConfig(t)
	f := ServerFilesOf(cfg.Server.Layout)
	root, rootKey := userCA(t, "company root", nil, nil, x509.KeyUsageCertSign)
	intermediate, key := userCA(t, "skiff intermediate", root, rootKey, x509.KeyUsageCertSign)
	placeCA(t, f.ServerCA, key, intermediate, root)
	certs := ensure(t, cfg, birthday)

	// A client that trusts nothing but the root gets the intermediate from us.
	served, err := certs.Serving.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range served.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		intermediates.AddCert(cert)
	}
	if _, err := readCert(t, f.Serving.Cert).Verify(x509.VerifyOptions{DNSName: "localhost", Roots: roots, Intermediates: intermediates, CurrentTime: birthday}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(f.ServerCA.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the user's key is left with mode %v (%v)", info.Mode(), err)
	}
	before := snapshot(t, cfg.Server.Layout.Data)
	ensure(t, cfg, birthday)
	if after := snapshot(t, cfg.Server.Layout.Data); after[f.Serving.Cert] != before[f.Serving.Cert] {
		t.Error("a second start issued the certificate again")
	}
}

func TestAUsersCAThatMayNotSignIsRefused(t *testing.T) {
	cfg := testConfig(t)
	cert, key := userCA(t, "no signer", nil, nil, x509.KeyUsageDigitalSignature)
	placeCA(t, ServerFilesOf(cfg.Server.Layout).ServerCA, key, cert)
	if _, err := Ensure(cfg, birthday, discard()); err == nil || !strings.Contains(err.Error(), "lacks keyCertSign") {
		t.Errorf("got %v", err)
	}
}

func TestTokensOfAllServiceAccountKeysAreGood(t *testing.T) {
	cfg := testConfig(t)
	f := ServerFilesOf(cfg.Server.Layout)
	if err := os.MkdirAll(cfg.Server.Layout.TLS(), 0o700); err != nil {
		t.Fatal(err)
	}
	_, fresh, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.ServiceAccountKey, append(fresh, pem.EncodeToMemory(&pem.Block{Type: blockRSAKey, Bytes: x509.MarshalPKCS1PrivateKey(old)})...))
	ensure(t, cfg, birthday)
	public, err := os.ReadFile(f.ServiceAccountPub)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(public), "BEGIN PUBLIC KEY"); n != 2 || strings.Contains(string(public), "PRIVATE") {
		t.Errorf("%s holds %d public keys, want 2 and nothing else", f.ServiceAccountPub, n)
	}
}

func TestAnAgentWithoutAServerIsRefused(t *testing.T) {
	cfg := testConfig(t)
	cfg.Server = nil
	if _, err := Ensure(cfg, birthday, discard()); err == nil {
		t.Error("want an error")
	}
}

func TestADirectoryThatCannotBeWrittenIsNamed(t *testing.T) {
	cfg := testConfig(t)
	if err := os.MkdirAll(filepath.Dir(cfg.Server.Layout.TLS()), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, cfg.Server.Layout.TLS(), []byte("a file in the way"))
	_, err := Ensure(cfg, birthday, discard())
	if err == nil || !strings.Contains(err.Error(), cfg.Server.Layout.TLS()) || !errors.Is(err, fs.ErrExist) && !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("got %v", err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, data)
}

func BenchmarkWarmStart(b *testing.B) {
	dir := b.TempDir()
	l := layout.Layout{Data: dir, Run: dir, Config: dir}
	cfg := Config{Server: &ServerConfig{Layout: l, ClusterDomain: "cluster.local"}, Node: &NodeConfig{Layout: l, Name: "box"}}
	start := time.Now()
	if _, err := Ensure(cfg, birthday, discard()); err != nil {
		b.Fatal(err)
	}
	b.Logf("cold: %s", time.Since(start))
	for b.Loop() {
		if _, err := Ensure(cfg, birthday, discard()); err != nil {
			b.Fatal(err)
		}
	}
}
