package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// served is the certificate that a server shows.
func served(t *testing.T, h *framework.Host) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", net.JoinHostPort(h.Address().String(), "6443"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// checked is what skiff certificate check says, and how it exits.
func checked(t *testing.T, h *framework.Host) ([]pki.Info, int) {
	t.Helper()
	r := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "certificate", "check", "-o", "json"}})
	var list []pki.Info
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || len(list) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	return list, r.Code
}

func quiet(t *testing.T) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(t.Output())
	return logrus.NewEntry(log)
}

// alive waits until a node has said so since begin.
func alive(t *testing.T, server *framework.Host, agent *framework.Agent, begin time.Time) {
	t.Helper()
	node := agent.Host.Hostname()
	framework.Eventually(t, 2*time.Minute, "the node "+node+" lives", func() error {
		out, err := server.TryKubectl(t.Context(), "-n", "kube-node-lease", "get", "lease", node, "-o", "jsonpath={.spec.renewTime}")
		if at, bad := time.Parse(time.RFC3339Nano, out); err != nil || bad != nil || at.Before(begin) {
			return fmt.Errorf("its lease says %q, %v\n%s", out, err, agent.Logs())
		}
		return nil
	})
}

// TestCertificatesAndCAsAreReplacedWhileTheClusterRuns never stops what it does
// not say that it stops.
func TestCertificatesAndCAsAreReplacedWhileTheClusterRuns(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	one, two, three := c.NewHost(t, "one"), c.NewHost(t, "two"), c.NewHost(t, "three")
	server := one.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	token := server.Token(t)
	agent := two.StartAgent(t, server)
	agent.AwaitReady(t)
	one.Exec(t, "cp", "/etc/skiff/kubeconfig.yaml", "/root/old.yaml")

	t.Run("they are listed", func(t *testing.T) {
		for _, h := range []*framework.Host{one, two} {
			if list, code := checked(t, h); code != 0 {
				t.Errorf("%s: exit code %d, %+v", h.Hostname(), code, list)
			}
			for line := range strings.Lines(h.Exec(t, "skiff", "certificate", "check")) {
				if len(line) > 81 {
					t.Errorf("wider than a terminal: %s", line)
				}
			}
		}
		two.SetClock(t, 300*day)
		defer two.SetClock(t, 0)
		list, code := checked(t, two)
		due := 0
		for _, i := range list {
			if i.State == pki.StateDue {
				due++
			}
		}
		if code != 2 || due != 4 {
			t.Errorf("after 300 days: exit code %d, %+v", code, list)
		}
	})

	t.Run("certificates", func(t *testing.T) {
		before := served(t, one)
		admin := one.ReadFile(t, "/etc/skiff/kubeconfig.yaml")
		one.Exec(t, "skiff", "certificate", "rotate", "--service", "api-server")
		framework.Eventually(t, time.Minute, "another one is served", func() error {
			if served(t, one).SerialNumber.Cmp(before.SerialNumber) == 0 {
				return fmt.Errorf("still %s", before.SerialNumber)
			}
			return nil
		})
		if one.ReadFile(t, "/etc/skiff/kubeconfig.yaml") != admin {
			t.Error("another's was replaced, too")
		}
		one.Exec(t, "skiff", "certificate", "rotate")
		if one.ReadFile(t, "/etc/skiff/kubeconfig.yaml") == admin {
			t.Error("the kubeconfig is the old one")
		}
		one.Kubectl(t, "get", "nodes")
		if r := two.Outcome(t, nshost.Cmd{Args: []string{"skiff", "certificate", "rotate"}}); r.Code != 1 || !strings.Contains(r.Stderr, "an agent runs here") {
			t.Errorf("%+v", r)
		}
	})

	t.Run("CAs", func(t *testing.T) {
		before := served(t, one)
		oldClient := two.ReadFile(t, "/var/lib/skiff/agent/client-kubelet.crt")
		one.Exec(t, "skiff", "certificate", "rotate-ca")
		root := strings.SplitAfter(one.ReadFile(t, "/var/lib/skiff/server/tls/server-ca.crt"), "-----END CERTIFICATE-----\n")[0]
		framework.Eventually(t, time.Minute, "the API is certified by the new CA", func() error {
			if now := served(t, one); now.Issuer.CommonName == before.Issuer.CommonName {
				return fmt.Errorf("it is %s's", now.Issuer)
			}
			return nil
		})
		framework.Eventually(t, 2*time.Minute, "the running agent follows", func() error {
			if !strings.Contains(two.ReadFile(t, "/var/lib/skiff/agent/server-ca.crt"), root) {
				return fmt.Errorf("it does not know the new CA\n%s", agent.Logs())
			}
			if two.ReadFile(t, "/var/lib/skiff/agent/client-kubelet.crt") == oldClient {
				return fmt.Errorf("it has the old certificate\n%s", agent.Logs())
			}
			return nil
		})
		begin := time.Now()
		alive(t, one, agent, begin)
		// Who has the old CA alone goes on.
		one.Exec(t, "skiff", "kubectl", "--kubeconfig", "/root/old.yaml", "get", "nodes")
		if one.ReadFile(t, "/var/lib/skiff/server/token") == token {
			t.Error("the token names the old CA")
		}
		joins := three.StartAgentAs(t, server, nil, "--server", server.URL(), "--token", token)
		joins.AwaitReady(t)
		// The API reaches kubelets of old and new certificates.
		for _, node := range []string{"two", "three"} {
			framework.Eventually(t, time.Minute, "the API reaches the kubelet of "+node, func() error {
				out, err := one.TryKubectl(t.Context(), "get", "--raw", "/api/v1/nodes/"+node+"/proxy/healthz")
				if err == nil && out != "ok" {
					err = fmt.Errorf("it says %q", out)
				}
				return err
			})
		}
		joins.MustStopCleanly(t)
	})

	t.Run("it starts again", func(t *testing.T) {
		agent.MustStopCleanly(t)
		server.MustStopCleanly(t)
		server = one.StartServer(t, "--disable-agent", "--token", token)
		server.AwaitAPI(t)
		begin := time.Now()
		agent = two.StartAgentAs(t, server, nil, "--server", server.URL(), "--token", token)
		alive(t, one, agent, begin)
		out := one.Kubectl(t, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
		if want := strings.TrimSpace(one.ReadFile(t, "/var/lib/skiff/server/tls/server-ca.crt")); strings.TrimSpace(out) != want {
			framework.Eventually(t, time.Minute, "pods get the new CA", func() error {
				out := one.Kubectl(t, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
				if strings.TrimSpace(out) != want {
					return fmt.Errorf("it is\n%s", out)
				}
				return nil
			})
		}
	})

	t.Run("one's own, refused and taken, while nothing runs", func(t *testing.T) {
		agent.MustStopCleanly(t)
		server.MustStopCleanly(t)
		one.Exec(t, "mkdir", "/root/new")
		one.WriteFile(t, "/root/new/server-ca.crt", one.ReadFile(t, "/var/lib/skiff/server/tls/serving-kube-apiserver.crt"))
		one.WriteFile(t, "/root/new/server-ca.key", one.ReadFile(t, "/var/lib/skiff/server/tls/serving-kube-apiserver.key"))
		before := one.ReadFile(t, "/var/lib/skiff/server/tls/server-ca.crt")
		if r := one.Outcome(t, nshost.Cmd{Args: []string{"skiff", "certificate", "rotate-ca", "--path", "/root/new"}}); r.Code != 1 || !strings.Contains(r.Stderr, "no CA certificate") {
			t.Errorf("%+v", r)
		}
		if one.ReadFile(t, "/var/lib/skiff/server/tls/server-ca.crt") != before {
			t.Error("a refused CA has changed the old one")
		}
		// A pair that is one: those of another cluster.
		theirs := pki.Config{Server: &pki.ServerConfig{}}
		theirs.Server.Layout.Data, theirs.Server.Layout.Config = t.TempDir(), t.TempDir()
		if _, err := pki.Ensure(theirs, time.Now(), quiet(t)); err != nil {
			t.Fatal(err)
		}
		files := pki.ServerFilesOf(theirs.Server.Layout).ServerCA
		for path, from := range map[string]string{"/root/new/server-ca.crt": files.Cert, "/root/new/server-ca.key": files.Key} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			one.WriteFile(t, path, string(data))
		}
		one.Exec(t, "skiff", "certificate", "rotate-ca", "--path", "/root/new")
		one.Exec(t, "skiff", "certificate", "rotate", "--service", "api-server")
		server = one.StartServer(t, "--disable-agent")
		server.AwaitAPI(t)
		begin := time.Now()
		agent = two.StartAgentAs(t, server, nil, "--server", server.URL())
		alive(t, one, agent, begin)
		if logs := server.Logs() + agent.Logs(); strings.Contains(logs, "PRIVATE KEY") {
			t.Error("a key is in a log")
		}
	})
	t.Run("all at once, for keys in wrong hands", func(t *testing.T) {
		one.Exec(t, "cp", "/etc/skiff/kubeconfig.yaml", "/root/old.yaml")
		old := server.Token(t)
		one.Exec(t, "skiff", "certificate", "rotate-ca", "--force")
		if now := server.Token(t); now == old {
			t.Error("the token names the old CA")
		}
		one.Kubectl(t, "get", "nodes")
		one.KubectlFails(t, nil, "--kubeconfig", "/root/old.yaml", "get", "nodes")
		framework.Eventually(t, 2*time.Minute, "the running agent says that it does not trust the server", func() error {
			if !strings.Contains(agent.Logs(), "is not to be trusted") {
				return errors.New(agent.Logs())
			}
			return nil
		})
		// As docs/certificates.md says.
		agent.MustStopCleanly(t)
		two.Exec(t, "sh", "-c", "rm /var/lib/skiff/agent/*.crt /var/lib/skiff/agent/*.key /var/lib/skiff/agent/cluster.json")
		begin := time.Now()
		agent = two.StartAgent(t, server)
		alive(t, one, agent, begin)
	})
}
