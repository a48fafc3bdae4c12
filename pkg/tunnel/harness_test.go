package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

func TestMain(m *testing.M) {
	if os.Getenv(agentVariable) != "" {
		if err := agentMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1")) // runs as long as the process
}

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// authorities issues what a cluster's server and node n have.
func authorities(t *testing.T, nodeName string) (pki.ServerFiles, pki.NodeFiles) {
	t.Helper()
	l := layout.Layout{Data: t.TempDir(), Run: t.TempDir(), Config: t.TempDir()}
	kubeconfig := config.Kubeconfig{Output: l.Kubeconfig(), Mode: 0o600, Name: "default"}
	_, err := pki.Ensure(pki.Config{
		Server: &pki.ServerConfig{Layout: l, Kubeconfig: kubeconfig, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}},
		Node:   &pki.NodeConfig{Layout: l, Name: nodeName, APIServer: "https://127.0.0.1:6443"},
	}, time.Now(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	return pki.ServerFilesOf(l), pki.NodeFilesOf(l)
}

// byCertificate is an Authorizer that believes client certificates of nodes.
func byCertificate(r *http.Request) (string, bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", false
	}
	return strings.CutPrefix(r.TLS.VerifiedChains[0][0].Subject.CommonName, pki.NodeUserPrefix)
}

// serve offers h as a server of the cluster does.
func serve(t *testing.T, files pki.ServerFiles, address string, h http.Handler) (at string, stop func()) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(files.Serving.Cert, files.Serving.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(files.ClientCA.Cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:   h,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ServeTLS(l, "", "") }()
	stop = func() { s.Close(); <-done }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

type runner interface {
	Run(ctx context.Context, ready func()) error
}

// run runs a component until the test ends or stop is called.
func run(t *testing.T, c runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, func() {}) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// object is a Node.
func object(name, podCIDR string, port int32, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podCIDR, PodCIDRs: []string{podCIDR}}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = port
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

// pair is a server and an agent that are connected.
type pair struct {
	server *Server
	agent  *Agent
	at     string
	stop   func() // of the agent
	files  pki.ServerFiles
	node   pki.NodeFiles
}

type settings struct {
	mode    Mode
	kubelet netip.AddrPort
	objects []*corev1.Node
	pods    []*corev1.Pod
	local   string
}

func clientset(s settings) kubernetes.Interface {
	c := fake.NewClientset()
	for _, n := range s.objects {
		_ = c.Tracker().Add(n)
	}
	for _, p := range s.pods {
		_ = c.Tracker().Add(p)
	}
	return c
}

func connectedPair(t *testing.T, s settings) *pair {
	t.Helper()
	files, node := authorities(t, "edge")
	cluster, services := []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}, []netip.Prefix{netip.MustParsePrefix("127.43.0.0/16")}
	client := clientset(s)
	p := &pair{files: files, node: node}
	p.server = newServer(ServerConfig{Mode: s.mode, LocalNode: s.local, Authorize: byCertificate, ClusterCIDRs: cluster, ServiceCIDRs: services}, client, quiet())
	run(t, p.server)
	p.at, _ = serve(t, files, "127.0.0.1:0", route(p.server))
	p.agent = NewAgent(AgentConfig{
		ServerCA: node.ServerCA, Cert: node.Kubelet.Cert, Key: node.Kubelet.Key,
		Servers: []string{p.at},
		Targets: Targets{Mode: s.mode, Kubelet: s.kubelet, Node: "edge", Client: client, ClusterCIDRs: cluster, ServiceCIDRs: services},
	}, quiet())
	p.stop = run(t, p.agent)
	await(t, func() bool { return p.server.connected("edge") }, "the agent is connected")
	return p
}

// connected says whether a node has a tunnel.
func (s *Server) connected(node string) bool { return s.session(node) != nil }

func route(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(protocol.PathConnect, h)
	return mux
}

func await(t *testing.T, ok func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain until " + what)
		}
	}
}

// echo listens, says its name to everybody, and repeats what it hears.
func echo(t *testing.T, address, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintln(c, name)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// whoAnswers connects and reads the first line.
func whoAnswers(ctx context.Context, s *Server, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := s.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return "", errors.Join(err, fmt.Errorf("after %q", line))
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}
