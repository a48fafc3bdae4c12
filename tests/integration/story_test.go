package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// everyReplica calls get until two different pods have answered.
func everyReplica(t *testing.T, what string, get func() (string, error)) {
	t.Helper()
	seen := map[string]bool{}
	framework.Eventually(t, 30*time.Second, what, func() error {
		answer, err := get()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(answer, "hello from web-") {
			return fmt.Errorf("the answer is %q", answer)
		}
		seen[answer] = true
		if len(seen) < 2 {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	})
}

func TestFirstStory(t *testing.T) {
	n := cluster(t)
	n.Apply(t, web("web", 2)+idle("client"))
	n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
	n.Wait(t, "condition=Ready", "pod/client")

	t.Run("the node has the version of Skiff", func(t *testing.T) {
		version := n.Get(t, "node/"+n.Hostname(), ".status.nodeInfo.kubeletVersion")
		if !regexp.MustCompile(`^v1\.36\.4\+skiff`).MatchString(version) {
			t.Errorf("the kubelet's version is %q", version)
		}
		if out := n.Kubectl(t, "version"); !regexp.MustCompile(`Server Version: v1\.36\.4\+skiff`).MatchString(out) {
			t.Errorf("kubectl version says %q", out)
		}
	})
	t.Run("the ClusterIP answers", func(t *testing.T) {
		ip := n.Get(t, "service/web", ".spec.clusterIP")
		everyReplica(t, "the ClusterIP from a pod", func() (string, error) {
			return n.TryExecIn(t.Context(), "client", "timeout", "3", "wget", "-qO-", "http://"+ip)
		})
		everyReplica(t, "the ClusterIP from the node", func() (string, error) {
			return n.Try(t.Context(), nil, "timeout", "3", "busybox", "wget", "-qO-", "http://"+ip)
		})
	})
	t.Run("the NodePort answers", func(t *testing.T) {
		n.Kubectl(t, "patch", "service", "web", "-p", `{"spec":{"type":"NodePort"}}`)
		port := n.Get(t, "service/web", ".spec.ports[0].nodePort")
		url := "http://" + n.Address().String() + ":" + port
		everyReplica(t, "the NodePort from outside", func() (string, error) { return framework.Fetch(url) })
		everyReplica(t, "the NodePort from the node", func() (string, error) {
			return n.Try(t.Context(), nil, "timeout", "3", "busybox", "wget", "-qO-", url)
		})
	})
	t.Run("the Service's name resolves in every form", func(t *testing.T) {
		for _, name := range []string{"web", "web." + n.Name, "web." + n.Name + ".svc", "web." + n.Name + ".svc.cluster.local"} {
			everyReplica(t, name, func() (string, error) {
				return n.TryExecIn(t.Context(), "client", "timeout", "3", "wget", "-qO-", "http://"+name)
			})
		}
	})
	t.Run("external names resolve through the host's resolver, and are reached", func(t *testing.T) {
		server := listen(t, n.Host, "outside")
		n.Names.Set("www.example.test", n.Gateway())
		framework.Eventually(t, 30*time.Second, "www.example.test from a pod", func() error {
			answer, err := n.TryExecIn(t.Context(), "client", "timeout", "3", "wget", "-qO-", "http://www.example.test:"+server)
			if err == nil && answer != "outside" {
				err = fmt.Errorf("the answer is %q", answer)
			}
			return err
		})
		if n.Names.Queries("www.example.test") == 0 {
			t.Error("the host's nameserver was not asked")
		}
		if n.Names.Queries("web."+n.Name+".svc.cluster.local") > 0 {
			t.Error("the host's nameserver was asked for a name of the cluster")
		}
	})
}

// listen serves a text over HTTP on the machine, for pods to reach, and gives
// the port.
func listen(t testing.TB, h *framework.Host, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(h.Gateway().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestStatusTellsHowLongTheStartTook(t *testing.T) {
	t.Parallel()
	h := plain(t)
	var status map[string]any
	if err := json.Unmarshal([]byte(h.Exec(t, "skiff", "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	text := h.Exec(t, "skiff", "status")
	for _, word := range []string{"apiserver", "kubelet", "scheduler", "containerd"} {
		if !strings.Contains(text, word) {
			t.Errorf("skiff status does not speak of %s:\n%s", word, text)
		}
	}
}

func TestSecretsAreForRootOnly(t *testing.T) {
	t.Parallel()
	h := plain(t)
	// Everything that others may read below the directories that hold keys.
	readable := h.Exec(t, "sh", "-c", `[ "$(stat -c %a /etc/skiff/kubeconfig.yaml)" = 600 ] || echo /etc/skiff/kubeconfig.yaml
		for d in /var/lib/skiff/server /var/lib/skiff/agent; do
			mode=$(stat -c %a $d); case $mode in *00) ;; *) find $d -name containerd -prune -o -type f -perm /044 \( -name '*.key' -o -name '*.db*' -o -name '*kubeconfig*' -o -name 'token*' \) -print ;; esac
		done`)
	if readable != "" {
		t.Errorf("not only root can read:\n%s", readable)
	}
	arguments := h.Exec(t, "sh", "-c", `cat /proc/[0-9]*/cmdline | tr '\0' ' '`)
	if strings.Contains(arguments, "BEGIN") || strings.Contains(arguments, "password") {
		t.Errorf("a secret is in the arguments of a process: %s", arguments)
	}
}
