package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

func TestKubectlReachesIntoPods(t *testing.T) {
	n := cluster(t)
	n.Apply(t, idle("box")+shell("echo", "while read -r line; do echo got $line; done")+
		shell("crash", "echo first line; echo second line; exit 3"))
	n.Kubectl(t, "run", "reader", "--image=busybox:test", "--restart=Never", "-i", "--attach=false", "--command", "--",
		"sh", "-c", `while read -r line; do echo "got $line"; done`)
	n.Wait(t, "condition=Ready", "pod/box", "pod/reader")

	t.Run("logs", func(t *testing.T) {
		n.Wait(t, "jsonpath={.status.phase}=Failed", "pod/crash")
		if out := n.Kubectl(t, "logs", "crash"); out != "first line\nsecond line" {
			t.Errorf("logs: %q", out)
		}
		if out := n.Kubectl(t, "logs", "-l", "app=crash", "--tail=1"); out != "second line" {
			t.Errorf("logs --tail: %q", out)
		}
		if out := n.Kubectl(t, "logs", "-f", "--timestamps", "crash"); !strings.HasPrefix(out, "20") {
			t.Errorf("logs --timestamps: %q", out)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if out := n.KubectlIn(t, strings.NewReader("over there"), "-n", n.Name, "exec", "-i", "box", "--", "cat"); out != "over there" {
			t.Errorf("exec -i: %q", out)
		}
		result := n.Outcome(t, nshost.Cmd{Args: []string{"skiff", "kubectl", "-n", n.Name, "exec", "box", "--", "sh", "-c", "echo oops >&2; exit 7"}})
		if result.Code != 7 || !strings.Contains(result.Stderr, "oops") {
			t.Errorf("exec: %+v", result)
		}
	})
	t.Run("attach", func(t *testing.T) {
		out := n.KubectlIn(t, strings.NewReader("a word\n"), "-n", n.Name, "attach", "-i", "reader")
		if !strings.Contains(out, "got a word") {
			t.Errorf("attach: %q", out)
		}
	})
	t.Run("cp", func(t *testing.T) {
		n.Exec(t, "sh", "-c", "mkdir -p /tmp/cp/sub && echo inside >/tmp/cp/sub/file")
		n.Kubectl(t, "cp", "/tmp/cp", "box:/tmp/there")
		if out := n.ExecIn(t, "box", "cat", "/tmp/there/sub/file"); out != "inside" {
			t.Errorf("cp to the pod: %q", out)
		}
		n.Kubectl(t, "cp", "box:/tmp/there/sub/file", "/tmp/back")
		if out := n.ReadFile(t, "/tmp/back"); out != "inside\n" {
			t.Errorf("cp from the pod: %q", out)
		}
	})
	t.Run("debug a pod", func(t *testing.T) {
		n.Kubectl(t, "debug", "box", "--image=busybox:test", "--target=main", "-c", "dbg", "--", "sh", "-c", "ps -o args")
		n.Wait(t, "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.reason}=Completed", "pod/box")
		if out := n.Kubectl(t, "logs", "box", "-c", "dbg"); !strings.Contains(out, "sleep 100000") {
			t.Errorf("the debugging container does not see its target: %q", out)
		}
	})
	t.Run("debug the node", func(t *testing.T) {
		out := n.Kubectl(t, "debug", "node/"+n.Hostname(), "--image=busybox:test", "--profile=general", "--", "cat", "/host/etc/hostname")
		name := strings.Fields(out)[3] // Creating debugging pod NAME with ...
		n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/"+name)
		if out := n.Kubectl(t, "logs", name); out != n.Hostname() {
			t.Errorf("debug node: %q", out)
		}
	})
	t.Run("describe", func(t *testing.T) {
		n.Wait(t, "condition=Ready", "pod/box")
		out := n.Kubectl(t, "describe", "pod", "box")
		for _, word := range []string{"busybox:test", "Successfully assigned", "Started"} {
			if !strings.Contains(out, word) {
				t.Errorf("describe does not say %q:\n%s", word, out)
			}
		}
		if out := n.Kubectl(t, "describe", "node", n.Hostname()); !strings.Contains(out, "PodCIDR") {
			t.Errorf("describe node:\n%s", out)
		}
	})
}

// background runs a kubectl command that serves until the test ends, and
// returns when it has printed a word.
func background(t *testing.T, h *framework.Host, word string, args ...string) {
	t.Helper()
	out := &watched{word: word, found: make(chan struct{})}
	p, err := h.Start(t.Context(), nshost.Cmd{Args: append([]string{"skiff", "kubectl"}, args...), Stdout: out, Stderr: out})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case <-out.found:
	case <-p.Done():
		t.Fatalf("kubectl %s ended: %s", strings.Join(args, " "), out)
	case <-ctx.Done():
		t.Fatalf("kubectl %s did not say %q: %s", strings.Join(args, " "), word, out)
	}
}

// watched is a writer that tells when a word has been written.
type watched struct {
	word  string
	found chan struct{}

	mu     sync.Mutex
	buffer bytes.Buffer
	closed bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buffer.Write(p)
	if !w.closed && strings.Contains(w.buffer.String(), w.word) {
		w.closed = true
		close(w.found)
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buffer.String()
}

func TestKubectlReachesServers(t *testing.T) {
	n := cluster(t)
	n.Apply(t, web("web", 1))
	n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
	pod := n.Get(t, "pods", ".items[0].metadata.name")
	address := n.Address().String()

	t.Run("port-forward", func(t *testing.T) {
		background(t, n.Host, "Forwarding from", "-n", n.Name, "port-forward", "--address=0.0.0.0", "service/web", "18080:80")
		for range 3 {
			if answer, err := framework.Fetch("http://" + address + ":18080/"); err != nil || !strings.Contains(answer, pod) {
				t.Errorf("port-forward: %q, %v", answer, err)
			}
		}
	})
	t.Run("proxy --reject-paths", func(t *testing.T) {
		background(t, n.Host, "Starting to serve", "proxy", "--address=0.0.0.0", "--port=18001", "--accept-hosts=.*", "--reject-paths=^/api/.*/secrets")
		if answer, err := framework.Fetch("http://" + address + ":18001/api/v1/namespaces/" + n.Name); err != nil || !strings.Contains(answer, n.Name) {
			t.Errorf("proxy: %q, %v", answer, err)
		}
		response, err := http.Get("http://" + address + ":18001/api/v1/secrets")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("a rejected path gives %s", response.Status)
		}
	})
	t.Run("the API's proxy paths", func(t *testing.T) {
		for path, want := range map[string]string{
			"/api/v1/nodes/" + n.Hostname() + "/proxy/healthz":                     "ok",
			"/api/v1/namespaces/" + n.Name + "/pods/http:" + pod + ":8080/proxy/":  "hello from " + pod,
			"/api/v1/namespaces/" + n.Name + "/services/web:http/proxy/":           "hello from " + pod,
			"/api/v1/namespaces/" + n.Name + "/services/web:80/proxy/probe/x?a=b":  "ok",
			"/api/v1/namespaces/" + n.Name + "/pods/" + pod + ":8080/proxy/client": "",
		} {
			if out := n.Kubectl(t, "get", "--raw", path); !strings.Contains(out, want) {
				t.Errorf("%s: %q", path, out)
			}
		}
	})
}

func TestKubectlChangesObjects(t *testing.T) {
	n := cluster(t)
	n.Apply(t, web("web", 1))
	n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")

	t.Run("rollout undo", func(t *testing.T) {
		n.Kubectl(t, "set", "env", "deployment/web", "COLOUR=red")
		n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
		n.Kubectl(t, "set", "env", "deployment/web", "COLOUR=blue")
		n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
		n.Kubectl(t, "rollout", "undo", "deployment/web")
		n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
		if out := n.Kubectl(t, "exec", "deployment/web", "--", "/web", "env", "COLOUR"); out != "red" {
			t.Errorf("after the undo the colour is %q", out)
		}
		if out := n.Kubectl(t, "rollout", "history", "deployment/web"); strings.Count(out, "<none>") < 3 {
			t.Errorf("rollout history: %s", out)
		}
	})
	t.Run("scale", func(t *testing.T) {
		n.Kubectl(t, "scale", "deployment/web", "--replicas=3")
		n.Wait(t, "jsonpath={.status.readyReplicas}=3", "deployment/web")
		n.Kubectl(t, "scale", "deployment/web", "--replicas=0")
		n.Wait(t, "delete", "pods", "-l", "app=web")
	})
	t.Run("apply --server-side tells about conflicts", func(t *testing.T) {
		config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ours}\ndata: {key: %s}\n"
		apply := func(manager, value string, more ...string) (string, error) {
			args := append([]string{"skiff", "kubectl", "-n", n.Name, "apply", "--server-side", "--field-manager=" + manager, "-f", "-"}, more...)
			return n.Try(t.Context(), strings.NewReader(fmt.Sprintf(config, value)), args...)
		}
		if _, err := apply("one", "a"); err != nil {
			t.Fatal(err)
		}
		var failed *nshost.ExitError
		if _, err := apply("two", "b"); !errors.As(err, &failed) || !strings.Contains(failed.Stderr, `conflict with "one"`) {
			t.Errorf("no conflict: %v", err)
		}
		if _, err := apply("two", "b", "--force-conflicts"); err != nil {
			t.Error(err)
		}
		if got := n.Get(t, "configmap/ours", ".data.key"); got != "b" {
			t.Errorf("the value is %q", got)
		}
	})
	t.Run("wait gives up in time", func(t *testing.T) {
		out := n.KubectlFails(t, "", "wait", "--for=jsonpath={.data.key}=c", "--timeout=1s", "configmap/ours")
		if !strings.Contains(out, "timed out") {
			t.Errorf("wait: %q", out)
		}
	})
}

func TestNameAsFirstArgument(t *testing.T) {
	t.Parallel()
	h := plain(t)
	h.Exec(t, "ln", "-sf", "/usr/local/bin/skiff", "/usr/local/bin/kubectl")
	h.Exec(t, "ln", "-sf", "/usr/local/bin/skiff", "/usr/local/bin/ctr")
	if out := h.Exec(t, "kubectl", "get", "nodes", "-o", "name"); strings.TrimSpace(out) != "node/"+h.Hostname() {
		t.Errorf("kubectl: %q", out)
	}
	if out := h.Exec(t, "ctr", "--namespace=k8s.io", "images", "list", "-q"); !strings.Contains(out, "busybox:test") {
		t.Errorf("ctr: %q", out)
	}
	if out := h.Exec(t, "skiff", "ctr", "version"); !strings.Contains(out, "2.3.7") {
		t.Errorf("skiff ctr: %q", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := h.Exec(t, "skiff", "completion", shell); !strings.Contains(out, "skiff") {
			t.Errorf("completion %s: %q", shell, out)
		}
	}
}
