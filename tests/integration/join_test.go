package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
	"github.com/skiff-k8s/skiff/tests/framework"
)

// joinServer is a server and what an attacker, an agent and an administrator
// know of it. Requests come from the test itself, from outside the host.
type joinServer struct {
	*framework.Host
	kind   framework.Kind
	server *framework.Server
	ca     []byte
	url    string

	serverToken, agentToken token.Token
	version                 string
}

// joinPatience is for what a loaded machine takes long to do.
const joinPatience = 3 * time.Minute

const agentPassword = "of-the-agents"

func startJoinServer(t *testing.T, k framework.Kind) *joinServer {
	h := suite.NewCluster(t, k.Families...).NewHost(t, "server")
	s := &joinServer{Host: h, kind: k}
	s.server = s.start(t, "--agent-token="+agentPassword, "--tls-san=api.example.test")
	s.server.AwaitReady(t)
	s.ca = []byte(h.ReadFile(t, "/var/lib/skiff/server/tls/server-ca.crt"))
	s.url = "https://" + net.JoinHostPort(h.Address().String(), "6443")
	s.serverToken = readToken(t, h, "token")
	s.agentToken = readToken(t, h, "agent-token")
	var v struct{ Kubernetes string }
	if err := json.Unmarshal([]byte(h.Exec(t, "skiff", "version", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	s.version = v.Kubernetes
	return s
}

// start starts the server on its host.
func (s *joinServer) start(t *testing.T, args ...string) *framework.Server {
	t.Helper()
	return s.StartServer(t, append(s.kind.Server, args...)...)
}

func readToken(t *testing.T, h *framework.Host, name string) token.Token {
	t.Helper()
	tok, err := token.Parse(strings.TrimSpace(h.ReadFile(t, "/var/lib/skiff/server/"+name)))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// credential is one way to say who one is.
type credential struct {
	name   string
	cert   *tls.Certificate
	header func(*http.Request)
}

func basic(name, user, password string) credential {
	return credential{name: name, header: func(r *http.Request) { r.SetBasicAuth(user, password) }}
}

func bearer(name, text string) credential {
	return credential{name: name, header: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+text) }}
}

func certified(t *testing.T, name, cert, key string) credential {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return credential{name: name, cert: &pair}
}

// reply is what a server answered.
type reply struct {
	status int
	header http.Header
	body   []byte
	no     protocol.Refusal
}

// ask asks again when the server said to: it was slowed down because of what
// other tests sent, or is starting.
func (s *joinServer) ask(t *testing.T, c credential, method, path, contentType string, body []byte) reply {
	t.Helper()
	for {
		got := s.askOnce(t, c, method, path, contentType, body)
		seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
		if err != nil {
			return got
		}
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func (s *joinServer) askOnce(t *testing.T, c credential, method, path, contentType string, body []byte) reply {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca)
	conf := &tls.Config{RootCAs: pool}
	if c.cert != nil {
		conf.Certificates = []tls.Certificate{*c.cert}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}, Timeout: joinPatience}
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set(protocol.HeaderVersion, s.version)
	if c.header != nil {
		c.header(r)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s as %s: %v", method, path, c.name, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: resp.StatusCode, header: resp.Header, body: data}
	_ = json.Unmarshal(data, &got.no) // only refusals have it
	return got
}

func (s *joinServer) post(t *testing.T, c credential, path string, body any) reply {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return s.ask(t, c, http.MethodPost, path, "application/json", data)
}

// machine is a machine that joins, with directories of its own.
type machine struct {
	cfg join.Config
	log *bytes.Buffer
}

func (s *joinServer) machine(t *testing.T, node string, number int, tok token.Token) *machine {
	t.Helper()
	dir := t.TempDir()
	return &machine{log: &bytes.Buffer{}, cfg: join.Config{
		Servers: []string{s.url}, Token: tok, NodeName: node, Addresses: s.kind.Elsewhere(number),
		APIServer: "https://127.0.0.1:6444", Version: s.version,
		Layout: layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")},
	}}
}

func (m *machine) join(t *testing.T) (protocol.ClusterConfig, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), joinPatience)
	defer cancel()
	log := logrus.New()
	log.SetOutput(m.log)
	return join.Join(ctx, m.cfg, log.WithField("component", "join"))
}

func (m *machine) mustJoin(t *testing.T) protocol.ClusterConfig {
	t.Helper()
	c, err := m.join(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// credential is the certificate of the machine's node.
func (m *machine) credential(t *testing.T, name string, files pki.CertKey) credential {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	return credential{name: name, cert: &pair}
}

func (m *machine) password(t *testing.T) string {
	t.Helper()
	p, err := token.NodePassword(m.cfg.Layout)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request is what the machine would ask for.
func (m *machine) request(t *testing.T) protocol.NodeRequest {
	t.Helper()
	_, set, err := pki.NewNodeKeys(pki.NodeConfig{Layout: m.cfg.Layout, Name: m.cfg.NodeName, Names: m.cfg.Names, Addresses: m.cfg.Addresses}, false)
	if err != nil {
		t.Fatal(err)
	}
	requests := protocol.NodeSet(set)
	return protocol.NodeRequest{Name: m.cfg.NodeName, Password: m.password(t), Version: m.cfg.Version, Requests: &requests}
}

func TestJoin(t *testing.T) { framework.InEachKind(t, testJoin) }

func testJoin(t *testing.T, k framework.Kind) {
	s := startJoinServer(t, k)
	slow := s.slowBody(t)
	t.Run("a machine joins, stays what it is, and starts without a server", func(t *testing.T) { joins(t, s) })
	t.Run("what is let in where", func(t *testing.T) { joinAccess(t, s) })
	t.Run("what is certified", func(t *testing.T) { joinRequests(t, s) })
	t.Run("whom a machine trusts", func(t *testing.T) { joinTrust(t, s) })
	t.Run("names belong to machines", func(t *testing.T) { nodePasswords(t, s) })
	t.Run("versions", func(t *testing.T) { joinVersions(t, s) })
	t.Run("bootstrap tokens", func(t *testing.T) { bootstrapTokens(t, s) })
	t.Run("the server token is replaced", func(t *testing.T) { rotation(t, s) })
	t.Run("a body that does not end", func(t *testing.T) {
		if got := <-slow; got != "HTTP/1.1 400 Bad Request" {
			t.Errorf("it was answered with %q", got)
		}
	})
	t.Run("guesses are slowed down", func(t *testing.T) { joinRate(t, s) })
}

func joins(t *testing.T, s *joinServer) {
	m := s.machine(t, "edge1", 11, s.agentToken)
	m.cfg.Names = []string{"edge1.example.test"}
	c := m.mustJoin(t)
	if c.ClusterDomain != "cluster.local" || len(c.ClusterCIDRs) != len(s.kind.Families) || c.FlannelBackend != "vxlan" || c.ServerVersion != s.version ||
		len(c.Servers) != 1 || c.Servers[0] != net.JoinHostPort(s.Address().String(), "6443") || c.ClientCA == "" {
		t.Errorf("the cluster's configuration is %+v", c)
	}
	files := pki.NodeFilesOf(m.cfg.Layout)
	for _, path := range []string{files.Serving.Key, files.Kubelet.Key, files.Proxy.Key, files.NodeAgent.Key, files.KubeletConfig, files.ProxyConfig, files.NodeAgentConfig,
		m.cfg.Layout.ClusterConfig(), m.cfg.Layout.NodePassword()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	leaf, err := x509.ParseCertificate(m.credential(t, "", files.Serving).cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.VerifyHostname("edge1.example.test"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if leaf.VerifyHostname(name) == nil {
			t.Errorf("the kubelet's certificate would do for the API at %s", name)
		}
	}
	// Each certificate is who it is to the API server, and no more.
	for path, want := range map[string]string{files.KubeletConfig: "system:node:edge1", files.ProxyConfig: "system:kube-proxy", files.NodeAgentConfig: "skiff:node:edge1"} {
		if got := s.whoami(t, path); got != want {
			t.Errorf("%s is %q to the API server, not %q", path, got, want)
		}
	}
	if got, err := join.Load(m.cfg.Layout, "edge1", time.Now()); err != nil || got.ClusterDomain != c.ClusterDomain {
		t.Errorf("a start without a server: %+v, %v", got, err)
	}
	if _, err := join.Load(m.cfg.Layout, "edge1", time.Now().Add(2*365*24*time.Hour)); err == nil {
		t.Error("a start with certificates that have run out")
	}
	m.mustJoin(t) // again, with the same password
	t.Run("while it runs it renews and follows", func(t *testing.T) { follows(t, m, c) })
	t.Run("with the short form of the token", func(t *testing.T) {
		short := s.machine(t, "edge2", 12, mustParse(t, s.agentToken.Secret()))
		short.mustJoin(t)
		if !strings.Contains(short.log.String(), "does not say which CA") {
			t.Errorf("nobody was warned: %s", short.log)
		}
	})
}

// follows has a node that has got another name renew without a token, and then
// one whose certificate is lost renew with it.
func follows(t *testing.T, m *machine, c protocol.ClusterConfig) {
	files := pki.NodeFilesOf(m.cfg.Layout)
	run := func(cfg join.Config, renewed func() error) {
		t.Helper()
		servers := make(chan []string, 10)
		log := logrus.New()
		log.SetOutput(m.log)
		f := join.NewFollower(cfg, c, join.Changes{Servers: func(list []string) { servers <- list }}, log.WithField("component", "membership"))
		ctx, cancel := context.WithCancel(t.Context())
		done, ready := make(chan error, 1), make(chan struct{})
		go func() { done <- f.Run(ctx, func() { close(ready) }) }()
		<-ready
		if got := <-servers; len(got) == 0 || got[0] != c.Servers[0] {
			t.Errorf("the servers are %v, want %v", got, c.Servers)
		}
		framework.Eventually(t, joinPatience, "it is renewed", renewed)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	other := withoutToken(m.cfg)
	other.Names = []string{"edge1.elsewhere.example.test"}
	run(other, func() error {
		leaf, err := x509.ParseCertificate(m.credential(t, "", files.Serving).cert.Certificate[0])
		if err != nil {
			return err
		}
		return leaf.VerifyHostname("edge1.elsewhere.example.test")
	})
	if err := os.Remove(files.NodeAgent.Cert); err != nil {
		t.Fatal(err)
	}
	run(m.cfg, func() error {
		_, err := tls.LoadX509KeyPair(files.NodeAgent.Cert, files.NodeAgent.Key)
		return err
	})
}

func mustParse(t *testing.T, text string) token.Token {
	t.Helper()
	tok, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// whoami asks the API server who the user of a kubeconfig of a machine is.
func (s *joinServer) whoami(t *testing.T, kubeconfig string) string {
	t.Helper()
	base := strings.TrimSuffix(kubeconfig, filepath.Base(kubeconfig))
	name := map[string]string{"kubelet.kubeconfig": "client-kubelet", "kube-proxy.kubeconfig": "client-kube-proxy", "skiff-node.kubeconfig": "client-skiff-node"}[filepath.Base(kubeconfig)]
	pair, err := tls.LoadX509KeyPair(base+name+".crt", base+name+".key")
	if err != nil {
		t.Fatal(err)
	}
	got := s.ask(t, credential{name: name, cert: &pair}, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", "application/json",
		[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`))
	var review struct {
		Status struct{ UserInfo struct{ Username string } }
	}
	if err := json.Unmarshal(got.body, &review); err != nil {
		t.Fatalf("%s: %v", got.body, err)
	}
	return review.Status.UserInfo.Username
}

// joinAccess is the table of docs/join.md: what is not allowed there is
// refused.
func joinAccess(t *testing.T, s *joinServer) {
	one, two := s.machine(t, "one", 21, s.serverToken), s.machine(t, "two", 22, s.serverToken)
	one.mustJoin(t)
	two.mustJoin(t)
	oneFiles, twoFiles := pki.NodeFilesOf(one.cfg.Layout), pki.NodeFilesOf(two.cfg.Layout)
	tls := "/var/lib/skiff/server/tls/"
	credentials := []credential{
		{name: "nobody"},
		basic("the agent token", "node", s.agentToken.Secret()),
		basic("the server token", "server", s.serverToken.Secret()),
		one.credential(t, "node one", oneFiles.NodeAgent),
		one.credential(t, "kubelet one", oneFiles.Kubelet),
		two.credential(t, "node two", twoFiles.NodeAgent),
		one.credential(t, "kube-proxy", oneFiles.Proxy),
		certified(t, "an administrator", s.ReadFile(t, tls+"client-admin.crt"), s.ReadFile(t, tls+"client-admin.key")),
		certified(t, "the API server", s.ReadFile(t, tls+"client-kube-apiserver.crt"), s.ReadFile(t, tls+"client-kube-apiserver.key")),
	}
	own, err := json.Marshal(one.request(t))
	if err != nil {
		t.Fatal(err)
	}
	const json = "application/json"
	rows := []struct {
		method, path string
		body         []byte
		want         [9]int // in the order of credentials
	}{
		{"POST", protocol.PathNode, own, [9]int{401, 200, 200, 200, 200, 403, 403, 403, 403}},
		{"GET", protocol.PathConfig, nil, [9]int{401, 200, 200, 200, 200, 200, 403, 403, 403}},
		{"GET", protocol.PathServers, nil, [9]int{401, 200, 200, 200, 200, 200, 403, 403, 403}},
		{"GET", protocol.PathNode, nil, [9]int{401, 405, 405, 405, 405, 405, 403, 403, 403}},
		{"POST", protocol.PathConfig, own, [9]int{401, 405, 405, 405, 405, 405, 403, 403, 403}},
		// A node is told to ask for an upgrade, which this client does not.
		{"GET", protocol.PathConnect, nil, [9]int{401, 403, 403, 426, 426, 426, 403, 403, 403}},
		{"POST", protocol.PathConnect, nil, [9]int{401, 403, 403, 426, 426, 426, 403, 403, 403}},
		// Replacing the token is tested where that is done.
		{"GET", protocol.PathServer, nil, [9]int{401, 403, 405, 403, 403, 403, 403, 403, 403}},
		{"POST", protocol.PathServer, []byte(`{}`), [9]int{401, 403, 400, 403, 403, 403, 403, 403, 403}},
		{"POST", protocol.PathToken, []byte(`{"newToken":"with a space"}`), [9]int{401, 403, 400, 403, 403, 403, 403, 400, 403}},
		{"GET", protocol.Prefix, nil, [9]int{401, 404, 404, 404, 404, 404, 403, 404, 403}},
		{"GET", protocol.Prefix + "secrets", nil, [9]int{401, 404, 404, 404, 404, 404, 403, 404, 403}},
		{"GET", protocol.Prefix + "../api/v1/secrets", nil, [9]int{401, 404, 404, 404, 404, 404, 403, 404, 403}},
		{"GET", protocol.PathConfig + "/", nil, [9]int{401, 404, 404, 404, 404, 404, 403, 404, 403}},
	}
	for _, row := range rows {
		for i, c := range credentials {
			got := s.ask(t, c, row.method, row.path, json, row.body)
			if got.status != row.want[i] {
				t.Errorf("%s %s as %s: %d, want %d: %s", row.method, row.path, c.name, got.status, row.want[i], got.body)
			}
			if got.status != http.StatusOK && (got.no.Error == "" || got.no.Reason == "") {
				t.Errorf("%s %s as %s does not say why: %q", row.method, row.path, c.name, got.body)
			}
		}
	}
	// A token is none for the API itself.
	for _, c := range []credential{credentials[1], credentials[2]} {
		if got := s.ask(t, c, "GET", "/api/v1/namespaces/kube-system/secrets", "", nil); got.status != http.StatusUnauthorized && got.status != http.StatusForbidden {
			t.Errorf("%s reads Secrets: %d", c.name, got.status)
		}
	}
	// A user's name or the other token's password does not help.
	for _, c := range []credential{
		basic("the agent token as the server", "server", s.agentToken.Secret()),
		basic("another user", "admin", s.serverToken.Secret()),
		bearer("a password as a bearer", s.serverToken.Secret()),
		{name: "another scheme", header: func(r *http.Request) { r.Header.Set("Authorization", "Digest x") }},
	} {
		if got := s.ask(t, c, "GET", protocol.PathConfig, "", nil); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d", c.name, got.status)
		}
	}
	for _, path := range []string{protocol.PathPing, protocol.PathCACerts} {
		if got := s.ask(t, credential{name: "nobody"}, "GET", path, "", nil); got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func csr(t *testing.T, key any, template x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func joinRequests(t *testing.T, s *joinServer) {
	// Another Ready node, whose names and address are its own.
	s.Kubectl(t, "create", "-f", writeIn(t, s.Host, "/tmp/other.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: other}\n"))
	all := s.kind.Elsewhere(77)
	others := all[len(all)-1].String()
	s.Kubectl(t, "patch", "node", "other", "--subresource=status", "--type=merge", "-p",
		`{"status":{"addresses":[{"type":"InternalIP","address":"`+others+`"},{"type":"InternalDNS","address":"other.example.test"}],"conditions":[{"type":"Ready","status":"True"}]}}`)
	service, err := netip.ParseAddr(s.Kubectl(t, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"))
	if err != nil {
		t.Fatal(err)
	}
	m := s.machine(t, "asks", 31, s.agentToken)
	agent := basic("the agent token", "node", s.agentToken.Secret())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weakRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakCurve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := pkix.Name{CommonName: "system:node:asks", Organization: []string{"system:nodes"}}
	serving := func(names []string, ips ...string) string {
		template := x509.CertificateRequest{Subject: node, DNSNames: names}
		for _, ip := range ips {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
		}
		return csr(t, key, template)
	}
	broken := []byte(serving([]string{"asks"}))
	block, _ := pem.Decode(broken)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := string(pem.EncodeToMemory(block))

	tests := []struct {
		name   string
		change func(*protocol.NodeRequest)
		want   string
	}{
		{"a superuser's group", func(r *protocol.NodeRequest) {
			r.Requests.Kubelet = csr(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:asks", Organization: []string{"system:nodes", "system:masters"}}})
		}, "gets"},
		{"a superuser's name", func(r *protocol.NodeRequest) {
			r.Requests.NodeAgent = csr(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters"}}})
		}, "gets"},
		{"another node's name", func(r *protocol.NodeRequest) {
			r.Requests.Kubelet = csr(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:other", Organization: []string{"system:nodes"}}})
		}, "gets"},
		{"more in its subject", func(r *protocol.NodeRequest) {
			r.Requests.Kubelet = csr(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:asks", Organization: []string{"system:nodes"}, OrganizationalUnit: []string{"x"}}})
		}, "subject"},
		{"a signature that is not its key's", func(r *protocol.NodeRequest) { r.Requests.Serving = forged }, "signature"},
		{"a weak RSA key", func(r *protocol.NodeRequest) {
			r.Requests.Serving = csr(t, weakRSA, x509.CertificateRequest{Subject: node})
		}, "RSA of 1024 bits"},
		{"a weak curve", func(r *protocol.NodeRequest) {
			r.Requests.Serving = csr(t, weakCurve, x509.CertificateRequest{Subject: node})
		}, "weak"},
		{"to be a CA", func(r *protocol.NodeRequest) {
			r.Requests.Serving = csr(t, key, x509.CertificateRequest{Subject: node, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}})
		}, "extension"},
		{"the API's name", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"kubernetes.default.svc"}) }, "API's or the cluster's"},
		{"a name that was given to the API", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"api.example.test"}) }, "API's or the cluster's"},
		{"localhost", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"localhost"}) }, "API's or the cluster's"},
		{"the loopback address", func(r *protocol.NodeRequest) { r.Requests.Serving = serving(nil, "127.0.0.1") }, "cannot be a node's address"},
		{"the loopback address of IPv6", func(r *protocol.NodeRequest) { r.Requests.Serving = serving(nil, "::1") }, "cannot be a node's address"},
		{"the server's address", func(r *protocol.NodeRequest) { r.Requests.Serving = serving(nil, s.Address().String()) }, "is a server's"},
		{"a Service's address", func(r *protocol.NodeRequest) { r.Requests.Serving = serving(nil, service.Next().Next().String()) }, "Services or pods"},
		{"a wildcard", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"*.example.test"}) }, "no DNS name"},
		{"another node's name to serve", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"other"}) }, "node other's"},
		{"another node's DNS name", func(r *protocol.NodeRequest) { r.Requests.Serving = serving([]string{"other.example.test"}) }, "node other's"},
		{"another Ready node's address", func(r *protocol.NodeRequest) { r.Requests.Serving = serving(nil, others) }, "in use by node other"},
		{"names in a client's certificate", func(r *protocol.NodeRequest) {
			r.Requests.Kubelet = csr(t, key, x509.CertificateRequest{Subject: node, DNSNames: []string{"asks"}})
		}, "which client certificates have not"},
		{"a request missing", func(r *protocol.NodeRequest) { r.Requests.Proxy = "" }, "not one CERTIFICATE REQUEST"},
		{"two requests in one", func(r *protocol.NodeRequest) { r.Requests.Proxy += r.Requests.Proxy }, "not one CERTIFICATE REQUEST"},
		{"a name that is none", func(r *protocol.NodeRequest) { r.Name = "../../etc" }, "cannot be a node's name"},
		{"no name", func(r *protocol.NodeRequest) { r.Name = "" }, "cannot be a node's name"},
		{"a long name", func(r *protocol.NodeRequest) { r.Name = strings.Repeat("a.", 120) + "a" }, "cannot be a node's name"},
		{"no password", func(r *protocol.NodeRequest) { r.Password = "" }, "password is missing"},
		{"no version", func(r *protocol.NodeRequest) { r.Version = "" }, "which Kubernetes version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := m.request(t)
			tt.change(&r)
			got := s.post(t, agent, protocol.PathNode, r)
			if got.status != http.StatusBadRequest || !strings.Contains(got.no.Error, tt.want) {
				t.Errorf("%d %s, want 400 and %q", got.status, got.body, tt.want)
			}
		})
	}
	if out := s.Kubectl(t, "-n", "kube-system", "get", "secret", "--ignore-not-found", "asks.node-password.skiff", "-o", "name"); out != "" {
		t.Error("a refused request has claimed the name")
	}
	t.Run("malformed and huge", func(t *testing.T) {
		for _, tt := range []struct {
			name, contentType string
			body              []byte
			want              int
		}{
			{"nothing", "application/json", nil, 400},
			{"no JSON", "application/json", []byte("name: x"), 400},
			{"another type in it", "application/json", []byte(`{"name": ["x"]}`), 400},
			{"another kind", "text/plain", []byte(`{}`), 415},
			{"megabytes", "application/json", bytes.Repeat([]byte(" "), 16<<20), 413},
		} {
			if got := s.ask(t, agent, "POST", protocol.PathNode, tt.contentType, tt.body); got.status != tt.want {
				t.Errorf("%s: %d, want %d", tt.name, got.status, tt.want)
			}
		}
	})
	t.Run("a request that was overheard, again", func(t *testing.T) {
		good := m.request(t)
		first, second := s.post(t, agent, protocol.PathNode, good), s.post(t, agent, protocol.PathNode, good)
		if first.status != 200 || second.status != 200 {
			t.Fatalf("%d, %d: %s", first.status, second.status, second.body)
		}
		// It gives certificates for keys that whoever repeats it has not.
		good.Password = strings.Repeat("x", 32)
		if got := s.post(t, agent, protocol.PathNode, good); got.status != 403 || got.no.Reason != protocol.ReasonNodePassword {
			t.Errorf("with another password: %d %s", got.status, got.body)
		}
	})
	t.Run("the address of a node that is off", func(t *testing.T) {
		s.Kubectl(t, "patch", "node", "other", "--subresource=status", "--type=merge", "-p", `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)
		framework.Eventually(t, joinPatience, "it is another's", func() error {
			r := m.request(t)
			r.Requests.Serving = serving([]string{"asks"}, others)
			if got := s.post(t, agent, protocol.PathNode, r); got.status != http.StatusOK {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
	})
}

func writeIn(t *testing.T, h *framework.Host, path, content string) string {
	t.Helper()
	h.WriteFile(t, path, content)
	return path
}

func joinTrust(t *testing.T, s *joinServer) {
	refusedWith := func(m *machine, want string) {
		t.Helper()
		_, err := m.join(t)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if secret := m.cfg.Token.Secret(); err != nil && secret != "" && strings.Contains(err.Error()+m.log.String(), secret) {
			t.Errorf("the secret is in %v\n%s", err, m.log)
		}
		if _, err := os.Stat(pki.NodeFilesOf(m.cfg.Layout).Kubelet.Key); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was left: %v", err)
		}
	}
	otherCA := strings.Repeat("ab", 32)
	t.Run("not a server with another CA", func(t *testing.T) {
		refusedWith(s.machine(t, "wary", 41, s.agentToken.Pinned(otherCA)), "not to be trusted, nothing was sent to it")
	})
	t.Run("a wrong token is refused", func(t *testing.T) {
		m := s.machine(t, "wary", 41, token.Password(s.agentToken.Hash(), token.UserNode, "guessed-wrong-password"))
		refusedWith(m, "the token is wrong")
		if !strings.Contains(s.server.Logs(), "Refused a credential") || strings.Contains(s.server.Logs(), "guessed-wrong-password") {
			t.Error("the server's log does not say so, or has the secret")
		}
	})
	t.Run("none", func(t *testing.T) {
		refusedWith(s.machine(t, "wary", 41, token.Token{}), "a token is needed")
	})
	t.Run("a cluster that it belongs to stays", func(t *testing.T) {
		m := s.machine(t, "loyal", 42, s.agentToken)
		m.mustJoin(t)
		m.cfg.Token = s.agentToken.Pinned(otherCA)
		if _, err := m.join(t); !errors.Is(err, join.ErrOtherCluster) {
			t.Errorf("got %v", err)
		}
		// Without a token its certificate does.
		m.cfg.Token = token.Token{}
		m.mustJoin(t)
	})
	t.Run("a server that does not answer is waited for", func(t *testing.T) {
		m := s.machine(t, "patient", 43, s.agentToken)
		m.cfg.Servers = []string{"https://" + net.JoinHostPort(s.Address().String(), "6449"), s.url}
		m.mustJoin(t) // the second one answers
		m = s.machine(t, "patient2", 44, s.agentToken)
		m.cfg.Servers = m.cfg.Servers[:1]
		m.cfg.Servers[0] = "https://" + net.JoinHostPort(s.Address().String(), "6449")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		log := logrus.New()
		log.SetOutput(m.log)
		if _, err := join.Join(ctx, m.cfg, log.WithField("component", "join")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(m.log.String(), "Waiting for a server to let this node join") || !strings.Contains(m.log.String(), "connection refused") {
			t.Errorf("the log says %s", m.log)
		}
	})
}

func nodePasswords(t *testing.T, s *joinServer) {
	first, second := s.machine(t, "shared", 51, s.agentToken), s.machine(t, "shared", 52, s.agentToken)
	taken := func(m *machine, want string) {
		t.Helper()
		_, err := m.join(t)
		refusal, ok := errors.AsType[*join.RefusedError](err)
		if !ok || refusal.Reason != protocol.ReasonNodePassword || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Stat(pki.NodeFilesOf(m.cfg.Layout).Kubelet.Key); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was left: %v", err)
		}
	}
	first.mustJoin(t)
	taken(second, "has not registered its node yet")
	register := func() {
		s.Kubectl(t, "create", "-f", writeIn(t, s.Host, "/tmp/shared.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: shared}\n"))
	}
	register()
	const mend = "skiff kubectl delete node shared"
	framework.Eventually(t, joinPatience, "the password belongs to the Node", func() error {
		out, err := s.TryKubectl(t.Context(), "-n", "kube-system", "get", "secret", "shared.node-password.skiff", "-o", "jsonpath={.metadata.ownerReferences[0].name}{.data.hash}")
		if err == nil && (!strings.HasPrefix(out, "shared") || strings.Contains(out, first.password(t))) {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	taken(second, mend)
	if !strings.Contains(s.server.Logs(), mend) {
		t.Error("the server's log does not say how to let it in")
	}
	first.mustJoin(t)

	// The one command.
	s.Kubectl(t, "delete", "node", "shared")
	second.mustJoin(t)
	register()
	taken(s.machine(t, "shared", 53, s.agentToken), mend)
	// The first machine's certificate is good still, its password is not.
	if _, err := (&machine{cfg: withoutToken(first.cfg), log: first.log}).join(t); err == nil || !strings.Contains(err.Error(), mend) {
		t.Errorf("the former machine may renew: %v", err)
	}

	t.Run("the server's own node", func(t *testing.T) {
		m := s.machine(t, s.Hostname(), 54, s.serverToken)
		_, err := m.join(t)
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a node that was there before passwords", func(t *testing.T) {
		s.Kubectl(t, "create", "-f", writeIn(t, s.Host, "/tmp/old.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: old}\n"))
		taken(s.machine(t, "old", 55, s.agentToken), "skiff kubectl delete node old")
	})
}

// slowBody sends half a request and gives the first line of what comes back;
// that is empty when nothing does.
func (s *joinServer) slowBody(t *testing.T) <-chan string {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca)
	conn, err := tls.Dial("tcp", net.JoinHostPort(s.Address().String(), "6443"), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+protocol.PathNode, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("node", s.agentToken.Secret())
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nAuthorization: %s\r\n\r\n{", protocol.PathNode, r.Header.Get("Authorization")); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		_ = conn.SetReadDeadline(time.Now().Add(joinPatience))
		line, _ := bufio.NewReader(conn).ReadString('\n') // nothing: ""
		first <- strings.TrimSpace(line)
	}()
	return first
}

func withoutToken(c join.Config) join.Config {
	c.Token = token.Token{}
	return c
}

func joinVersions(t *testing.T, s *joinServer) {
	var major, minor int
	if _, err := fmt.Sscanf(s.version, "v%d.%d.", &major, &minor); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		minor int
		want  string
	}{{minor + 1, "upgrade the servers first"}, {minor - 4, "upgrade the agent"}, {minor - 3, ""}, {minor - 1, ""}} {
		m := s.machine(t, fmt.Sprintf("version%d", i), 60+i, s.agentToken)
		m.cfg.Version = fmt.Sprintf("v%d.%d.9", major, tt.minor)
		_, err := m.join(t)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", m.cfg.Version, err, tt.want)
		}
		if tt.want != "" && !strings.Contains(s.server.Logs(), tt.want) {
			t.Errorf("%s: the server's log does not say why", m.cfg.Version)
		}
	}
}

// joinRate comes last: afterwards this address is slowed down.
func joinRate(t *testing.T, s *joinServer) {
	guess := basic("a guess", "node", "guess")
	limited := -1
	for i := range 30 {
		got := s.askOnce(t, guess, "GET", protocol.PathConfig, "", nil)
		if got.status == http.StatusTooManyRequests {
			if got.header.Get("Retry-After") == "" || got.no.Reason != protocol.ReasonBusy {
				t.Errorf("%v %s", got.header, got.body)
			}
			limited = i
			break
		}
		if got.status != http.StatusUnauthorized {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if limited < 0 {
		t.Fatal("30 guesses in a row were answered")
	}
	// Even the right one waits, or guessing would go on.
	if got := s.askOnce(t, basic("the agent token", "node", s.agentToken.Secret()), "GET", protocol.PathConfig, "", nil); got.status != http.StatusTooManyRequests {
		t.Errorf("the right token from there: %d", got.status)
	}
	// Other addresses, and nodes that have joined, go on.
	loopback := map[bool]string{true: "127.0.0.1", false: "[::1]"}[s.Address().Is4()]
	out := s.Exec(t, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-u", "node:"+s.agentToken.Secret(), "-H", protocol.HeaderVersion+": "+s.version, "https://"+loopback+":6443"+protocol.PathConfig)
	if out != "200" {
		t.Errorf("from another address: %s", out)
	}
}
