package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/skiff-k8s/skiff/tests/databases"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// password is the databases'.
const password = "hunter2-of-the-database"

// certificate makes a certificate for an address that is its own authority, and
// good for clients too. It gives the names of two files.
func certificate(t *testing.T, address string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "datastore"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// running is a database server that can be started again.
type running struct {
	databases.Server
	start, stop func()
}

// database is a server of the machine's at the hosts' gateway.
func database(t *testing.T, address string, script func(databases.Server) string, end os.Signal) *running {
	t.Helper()
	if why := databases.Missing(); why != "" {
		t.Fatal(why)
	}
	dir, err := os.MkdirTemp("/var/tmp", "skiff-database-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s := databases.Server{Dir: filepath.Join(dir, "server"), Address: address, Port: freePort(t, address), Password: password}
	s.Cert, s.Key = certificate(t, address)
	r := &running{Server: s, stop: func() {}}
	r.start = func() {
		stop, err := databases.Start(script(s), end, filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		r.stop = sync.OnceFunc(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func freePort(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startEtcd runs etcd's own server, which asks clients for a certificate.
func startEtcd(t *testing.T, address string) (endpoint, cert, key string) {
	t.Helper()
	cert, key = certificate(t, address)
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	clients := []url.URL{{Scheme: "https", Host: net.JoinHostPort(address, "0")}}
	peers := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers, peers
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo = transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: cert, ClientCertAuth: true}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(e.Close))
	<-e.Server.ReadyNotify()
	return "https://" + e.Clients[0].Addr().String(), cert, key
}

// copyTo gives a host files of the machine's.
func copyTo(t *testing.T, h *framework.Host, files map[string]string) {
	t.Helper()
	for from, to := range files {
		if err := h.CopyIn(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
	}
}

// keeps writes to a server, kills it, and looks for what was written.
func keeps(t *testing.T, h *framework.Host, s *framework.Server, start func() *framework.Server) *framework.Server {
	t.Helper()
	awaitAPI(t, h)
	for i := range 5 {
		h.Kubectl(t, "create", "secret", "generic", fmt.Sprintf("kept-%d", i), "--from-literal=a=what-is-in-a-secret")
	}
	h.Kubectl(t, "delete", "secret", "kept-0")
	s.Kill9(t)
	said := s.Logs()
	s = start()
	awaitAPI(t, h)
	if got := h.Kubectl(t, "get", "secrets", "-o", "name"); strings.Count(got, "secret/kept-") != 4 || strings.Contains(got, "kept-0") {
		t.Errorf("after kill -9 there is %s", got)
	}
	discreet(t, h, said+s.Logs())
	return s
}

// discreet looks for secrets where anybody, or a reader of logs, finds them.
func discreet(t *testing.T, h *framework.Host, logs string) {
	t.Helper()
	seen := map[string]string{
		"the log":                            logs,
		"the process list":                   h.Exec(t, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
		"files that everybody may read":      h.Exec(t, "sh", "-c", "find /var/lib/skiff /run/skiff /etc/skiff -type f -perm /044 -exec cat {} + 2>/dev/null || true"),
		"skiff config show":                  h.Exec(t, "skiff", "config", "show"),
		"the status, which is root's anyway": h.Exec(t, "sh", "-c", "skiff status -o json || true"),
	}
	for where, text := range seen {
		for _, secret := range []string{password, "what-is-in-a-secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, where)
			}
		}
	}
	if got := h.Exec(t, "sh", "-c", "stat -c %a /run/skiff/kine.sock 2>/dev/null || echo 600"); strings.TrimSpace(got) != "600" {
		t.Errorf("kine's socket has the mode %s", got)
	}
}

func TestServersOnPostgreSQL(t *testing.T) {
	t.Parallel()
	suite.Require(t)
	c := suite.NewCluster(t)
	a, b := c.NewHost(t, "a"), c.NewHost(t, "b")
	db := database(t, a.Gateway().String(), databases.Server.Postgres, syscall.SIGINT)
	endpoint := fmt.Sprintf("postgres://%s:%s@%s:%d/cluster", databases.User, password, db.Address, db.Port)
	for _, h := range []*framework.Host{a, b} {
		copyTo(t, h, map[string]string{db.Cert: "/etc/skiff/db-ca.crt"})
	}
	start := func(h *framework.Host, more ...string) *framework.Server {
		return h.StartServer(t, append([]string{"--disable-agent", "--datastore-endpoint", endpoint, "--datastore-cafile=/etc/skiff/db-ca.crt"}, more...)...)
	}
	s := keeps(t, a, start(a), func() *framework.Server { return start(a) })

	t.Run("a snapshot goes into SQLite elsewhere", func(t *testing.T) {
		elsewhere := c.NewHost(t, "elsewhere")
		a.Exec(t, "skiff", "snapshot", "save", "--name=moves")
		copyTo(t, elsewhere, map[string]string{a.Path(strings.TrimSpace(a.Exec(t, "sh", "-c", "ls /var/lib/skiff/server/db/snapshots/moves-*"))): "/root/moves.snapshot"})
		elsewhere.Exec(t, "skiff", "snapshot", "restore", "--token="+strings.TrimSpace(a.ReadFile(t, "/var/lib/skiff/server/token")), "/root/moves.snapshot")
		alone := elsewhere.StartServer(t, "--disable-agent")
		awaitAPI(t, elsewhere)
		if got := elsewhere.Kubectl(t, "get", "secrets", "-o", "name"); strings.Count(got, "secret/kept-") != 4 {
			t.Errorf("in SQLite there is %s", got)
		}
		alone.MustStopCleanly(t)
	})
	t.Run("a second server has the same cluster", func(t *testing.T) {
		second := start(b)
		second.MustFail(t, 2*time.Minute)
		if want := "give the token of its servers"; !strings.Contains(second.Logs(), want) {
			t.Errorf("without a token it does not say %q\n%s", want, second.Logs())
		}
		token := "--token=" + strings.TrimSpace(a.ReadFile(t, "/var/lib/skiff/server/token"))
		second = start(b, token, "--cluster-domain=other.example")
		second.MustFail(t, 2*time.Minute)
		if want := `cluster-domain is "cluster.local" there and "other.example" here`; !strings.Contains(second.Logs(), want) {
			t.Errorf("with other settings it does not say %s\n%s", want, second.Logs())
		}
		second = start(b, token)
		awaitAPI(t, b)
		for i := range 5 { // a list, which a server answers from its cache, has what the other has answered before
			name := fmt.Sprintf("configmap/from-b-%d", i)
			b.Kubectl(t, "create", "configmap", strings.TrimPrefix(name, "configmap/"))
			if got := strings.Fields(a.Kubectl(t, "get", "configmaps", "-o", "name")); !slices.Contains(got, name) {
				t.Errorf("one server has made %s, and the other lists %v", name, got)
			}
		}
		ca := "/var/lib/skiff/server/tls/server-ca.crt"
		if a.ReadFile(t, ca) != b.ReadFile(t, ca) {
			t.Error("the servers have different CAs")
		}
		s.Kill9(t)
		b.Kubectl(t, "create", "configmap", "alone")
		second.MustStopCleanly(t)
		second = start(b, token, "--egress-selector-mode=pod")
		awaitAPI(t, b)
		framework.Eventually(t, time.Minute, "a server that is started with another setting says so", func() error {
			if want := `at the last start of a server: egress-selector-mode is`; !strings.Contains(second.Logs(), want) {
				return errors.New("it does not say " + want)
			}
			return nil
		})
		second.MustStopCleanly(t)
	})
	t.Run("a snapshot without a server", func(t *testing.T) {
		said := a.Exec(t, "skiff", "snapshot", "save", "--name=offline", "--datastore-endpoint", endpoint, "--datastore-cafile=/etc/skiff/db-ca.crt")
		if !strings.Contains(said, "Saved offline-a-") {
			t.Errorf("it says %s", said)
		}
	})
	t.Run("a wrong password is named, and not waited for", func(t *testing.T) {
		endpoint = strings.Replace(endpoint, password, "wrong", 1)
		s := start(a)
		s.MustFail(t, 2*time.Minute)
		if want := "correct the user or the password in --datastore-endpoint"; !strings.Contains(s.Logs(), want) {
			t.Errorf("it does not say %q\n%s", want, s.Logs())
		}
	})
}

func TestAServerOnMariaDBWaitsForIt(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	port := freePort(t, h.Gateway().String())
	endpoint := fmt.Sprintf("mysql://%s:%s@tcp(%s:%d)/cluster", databases.User, password, h.Gateway(), port)
	nothing := h.StartServerWith(t, []string{"SKIFF_DATASTORE_ENDPOINT=" + endpoint}, "--disable-agent")
	framework.Eventually(t, 2*time.Minute, "the server says that it waits", func() error {
		if !strings.Contains(nothing.Logs(), "does not answer") {
			return fmt.Errorf("it says %s", nothing.Logs())
		}
		return nil
	})
	if took := nothing.MustStopCleanly(t); strings.Contains(nothing.Logs(), password) {
		t.Errorf("the password is in the log of a server that waited and stopped within %s", took)
	}
	db := database(t, h.Gateway().String(), databases.Server.MariaDB, syscall.SIGTERM)
	copyTo(t, h, map[string]string{db.Cert: "/etc/skiff/db-ca.crt"})
	endpoint = fmt.Sprintf("mysql://%s:%s@tcp(%s:%d)/cluster", databases.User, password, db.Address, db.Port)
	start := func() *framework.Server {
		return h.StartServerWith(t, []string{"SKIFF_DATASTORE_ENDPOINT=" + endpoint}, "--disable-agent", "--datastore-cafile=/etc/skiff/db-ca.crt")
	}
	s := keeps(t, h, start(), start)

	db.stop()
	framework.Eventually(t, time.Minute, "the server says that its datastore is gone", func() error {
		if _, err := h.TryKubectl(t.Context(), "get", "--raw", "/readyz"); err == nil {
			return errors.New("it says that it is ready")
		}
		return nil
	})
	db.start()
	awaitAPI(t, h)
	h.Kubectl(t, "create", "configmap", "after")
	s.MustStopCleanly(t) // the process that there was
}

func TestAServerOnExternalEtcd(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	endpoint, cert, key := startEtcd(t, h.Gateway().String())
	copyTo(t, h, map[string]string{cert: "/etc/skiff/etcd.crt", key: "/etc/skiff/etcd.key"})
	h.Exec(t, "chmod", "600", "/etc/skiff/etcd.key")
	h.WriteFile(t, "/etc/skiff/config.yaml", "disable-agent: true\ndatastore-endpoint: "+endpoint+"\ndatastore-cafile: /etc/skiff/etcd.crt\n")
	refused := h.StartServer(t)
	refused.MustFail(t, 2*time.Minute)
	if want := "set --datastore-certfile and --datastore-keyfile"; !strings.Contains(refused.Logs(), want) {
		t.Errorf("without a certificate it does not say %q\n%s", want, refused.Logs())
	}
	h.WriteFile(t, "/etc/skiff/config.yaml.d/client.yaml", "datastore-certfile: /etc/skiff/etcd.crt\ndatastore-keyfile: /etc/skiff/etcd.key\n")
	start := func() *framework.Server { return h.StartServer(t) }
	s := keeps(t, h, start(), start)
	if out := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "status"}}); out.Code != 0 || !strings.Contains(out.Stdout, "datastore") {
		t.Errorf("the status is %d: %s", out.Code, out.Stdout)
	}
	s.MustStopCleanly(t)
}
