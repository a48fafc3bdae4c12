package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/images"
)

// containers tells of every container in the namespace: which it is, since
// when it runs and how often it was started again.
func containers(t *testing.T, n *framework.Namespace) string {
	t.Helper()
	return n.Kubectl(t, "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {range .status.containerStatuses[*]}{.containerID} {.state.running.startedAt} {.restartCount}{"\n"}{end}{end}`)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	if err := h.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := serviceManager(t, h)
	server := h.StartServerWith(t, []string{"NOTIFY_SOCKET=/run/notify.sock"})
	server.AwaitReady(t)
	told(t, "READY=1")
	t.Cleanup(func() { server.MustStopCleanly(t) }) // after the namespace's clean-up
	n := h.NewNamespace(t)
	n.Apply(t, web("web", 2))
	n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
	n.Kubectl(t, "patch", "service", "web", "-p", `{"spec":{"type":"NodePort"}}`)
	url := "http://" + h.Address().String() + ":" + n.Get(t, "service/web", ".spec.ports[0].nodePort")
	stillServed(t, n, url) // kube-proxy writes its rules once in a second
	before := containers(t, n)
	pinned(t, h)

	t.Run("SIGTERM ends the server in time and leaves the pods running", func(t *testing.T) {
		if !strings.Contains(server.Logs(), "imported images") {
			t.Error("the first start did not say that it imported images, and the check below would be void")
		}
		took := server.MustStopCleanly(t)
		t.Logf("the stop took %s", took)
		told(t, "STOPPING=1")
		stillServed(t, n, url)
		if out := h.Exec(t, "sh", "-c", "pgrep -x skiff || true"); out != "" {
			t.Errorf("left of the server: %s", out)
		}
	})
	t.Run("after a restart the same containers run", func(t *testing.T) {
		server = h.StartServer(t)
		server.AwaitReady(t)
		settled(t, n, before)
		pinned(t, h)
		if strings.Contains(server.Logs(), "imported images") {
			t.Error("archives that had not changed were imported again")
		}
	})
	t.Run("every write that was acknowledged before kill -9 is there afterwards", func(t *testing.T) {
		acknowledged := writeUntil(t, h, "written", 400, func() { server.Kill9(t) })
		stillServed(t, n, url)
		server = h.StartServer(t)
		server.AwaitReady(t)
		missing(t, h, acknowledged)
		settled(t, n, before)
	})
	t.Run("a pod made after all this works, and so does the rest", func(t *testing.T) {
		n.Kubectl(t, "rollout", "restart", "deployment/web")
		n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
		stillServed(t, n, url)
	})
}

// serviceManager listens where systemd would, and gives a function that waits
// for a word.
func serviceManager(t *testing.T, h *framework.Host) func(*testing.T, string) {
	t.Helper()
	address := &net.UnixAddr{Name: h.Path("/run/notify.sock"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(t *testing.T, word string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 4096)
		for {
			n, err := conn.Read(message)
			if err != nil {
				t.Errorf("the service manager was not told %s: %v", word, err)
				return
			}
			if strings.Contains(string(message[:n]), word) {
				return
			}
		}
	}
}

// stillServed has time for a request that was sent to a pod as it went, before
// kube-proxy's rules knew: such a request hangs, here as anywhere.
func stillServed(t *testing.T, n *framework.Namespace, url string) {
	t.Helper()
	framework.Eventually(t, 20*time.Second, "the pods answer", func() error {
		answer, err := framework.Fetch(url)
		if err == nil && !strings.HasPrefix(answer, "hello from web-") {
			err = fmt.Errorf("got %q", answer)
		}
		return err
	})
}

// settled waits until the kubelet has looked at its pods again, and then
// checks that nothing has changed.
func settled(t *testing.T, n *framework.Namespace, before string) {
	t.Helper()
	n.Wait(t, "condition=Ready", "pods", "--all")
	n.Apply(t, shell("marker", "true"))
	n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/marker")
	n.Kubectl(t, "delete", "pod", "marker")
	if after := containers(t, n); after != before {
		t.Errorf("the containers are\n%s\nbefore:\n%s", after, before)
	}
}

// pinned checks that the images of the archives are kept from garbage
// collection.
func pinned(t *testing.T, h *framework.Host) {
	t.Helper()
	out := h.Exec(t, "skiff", "ctr", "-n", "k8s.io", "images", "list")
	for _, name := range []string{images.Busybox, images.Web} {
		found := false
		for line := range strings.Lines(out) {
			found = found || strings.HasPrefix(line, name+" ") && strings.Contains(line, "io.cri-containerd.pinned=pinned")
		}
		if !found {
			t.Errorf("%s is not there or not pinned:\n%s", name, out)
		}
	}
}

// client reaches the API server from the machine with the administrator's
// kubeconfig.
func client(t *testing.T, h *framework.Host) *kubernetes.Clientset {
	t.Helper()
	path := t.TempDir() + "/kubeconfig"
	content := strings.ReplaceAll(h.ReadFile(t, "/etc/skiff/kubeconfig.yaml"), "127.0.0.1", h.Address().String())
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = -1, -1
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// writeUntil creates ConfigMaps from many goroutines, calls kill in the middle
// of it, when enough were acknowledged, and gives the names of all that were.
func writeUntil(t *testing.T, h *framework.Host, prefix string, enough int, kill func()) []string {
	t.Helper()
	const writers = 8
	c := client(t, h)
	var (
		mu    sync.Mutex
		names []string
		group sync.WaitGroup
		once  sync.Once
		full  = make(chan struct{})
	)
	for w := range writers {
		group.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s-%d-%d", prefix, w, i)
				object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": name}}
				if _, err := c.CoreV1().ConfigMaps("default").Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
					once.Do(func() { close(full) }) // the first error before the kill would be found below
					return
				}
				mu.Lock()
				names = append(names, name)
				reached := len(names) >= enough
				mu.Unlock()
				if reached {
					once.Do(func() { close(full) })
				}
			}
		})
	}
	<-full
	kill()
	group.Wait()
	if len(names) < enough {
		t.Fatalf("only %d writes succeeded before the server was killed", len(names))
	}
	return names
}

func missing(t *testing.T, h *framework.Host, names []string) {
	t.Helper()
	list, err := client(t, h).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, c := range list.Items {
		found[c.Name] = c.Data["key"] == c.Name
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	t.Logf("%d acknowledged writes survived", len(names))
}
