package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

const (
	schedulerConfig = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
`
	urlPod = `
apiVersion: v1
kind: Pod
metadata: {name: from-url, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers: [{name: main, image: busybox:test, command: [sleep, "100000"]}]
`
)

// specialArgs prepares a host whose server is set up by files: /etc/skiff's
// main file, a drop-in that adds to it, and a flag that beats both.
func specialArgs(h *framework.Host) ([]string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(h.Gateway().String(), "0"))
	if err != nil {
		return nil, err
	}
	go func() {
		// It serves until the tests end.
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, urlPod) }))
	}()
	files := map[string]string{
		// As systemd-resolved leaves it: a stub that pods cannot ask, and
		// beside it the servers that it asks itself.
		"/etc/resolv.conf":                 "nameserver 127.0.0.53\noptions edns0 trust-ad\n",
		"/run/systemd/resolve/resolv.conf": fmt.Sprintf("nameserver %s\n", h.Gateway()),
		"/etc/skiff/scheduler.yaml":        schedulerConfig,
		"/etc/skiff/config.yaml": fmt.Sprintf(`
node-name: overruled
node-label: [zone=a]
tls-san: [special.example.test]
write-kubeconfig-mode: "0640"
kube-scheduler-arg: [config=/etc/skiff/scheduler.yaml]
kubelet-arg: ["manifest-url=http://%s/pod.yaml", http-check-frequency=2s]
cluster-cidr: 10.52.0.0/16
service-cidr: 10.53.0.0/16
`, l.Addr()),
		"/etc/skiff/config.yaml.d/50-more.yaml": "node-label+: [disk=fast]\nkubelet-arg+: [max-pods=50]\n",
	}
	for path, content := range files {
		if _, err := h.Try(context.Background(), strings.NewReader(content), "sh", "-c", `mkdir -p "${0%/*}" && cat >"$0"`, path); err != nil {
			return nil, err
		}
	}
	return []string{"--node-name=" + h.Hostname()}, nil
}

// The tests of the special server run one after the other: they change what
// all of its pods feel.
func TestSpecialServer(t *testing.T) {
	h := special(t)
	n := h.NewNamespace(t)
	node := "node/" + h.Hostname()

	t.Run("settings come from the files and flags", func(t *testing.T) {
		got := n.Get(t, node, `.metadata.labels.zone`) + n.Get(t, node, ".metadata.labels.disk") + n.Get(t, node, ".status.capacity.pods")
		if got != "afast50" {
			t.Errorf("labels and capacity are %q", got)
		}
		if got := h.Kubectl(t, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"); got != "10.53.0.1" {
			t.Errorf("the API's Service has the address %s", got)
		}
		if got := strings.TrimSpace(h.Exec(t, "stat", "-c", "%a", "/etc/skiff/kubeconfig.yaml")); got != "640" {
			t.Errorf("the kubeconfig's mode is %s", got)
		}
	})
	t.Run("a static pod comes from a URL", func(t *testing.T) {
		name := "from-url-" + h.Hostname()
		framework.Eventually(t, time.Minute, "the mirror pod", func() error {
			_, err := h.TryKubectl(t.Context(), "wait", "--for=condition=Ready", "--timeout=50s", "pod/"+name)
			return err
		})
		if got := h.Kubectl(t, "get", "pod", name, "-o", `jsonpath={.metadata.annotations.kubernetes\.io/config\.source}`); got != "http" {
			t.Errorf("the pod's source is %q", got)
		}
	})
	t.Run("static pods come from the directory, change with it and go with it", func(t *testing.T) { staticPods(t, h) })
	t.Run("a scheduler profile of the user's places pods", func(t *testing.T) {
		n.Apply(t, with(idle("packed"), "  schedulerName: packer"))
		n.Wait(t, "condition=Ready", "pod/packed")
		out := n.Kubectl(t, "get", "events", "--field-selector=reason=Scheduled,involvedObject.name=packed", "-o", "jsonpath={.items[*].source.component}{.items[*].reportingComponent}")
		if !strings.Contains(out, "packer") {
			t.Errorf("the pod was scheduled by %q", out)
		}
	})
	t.Run("the DNS server takes the user's own configuration", func(t *testing.T) { customDNS(t, n) })
	t.Run("the kubelet lets nobody in without a certificate", func(t *testing.T) { kubeletAccess(t, h) })
	t.Run("the API server checks whom it talks to", func(t *testing.T) { falseKubelet(t, n) })
	t.Run("taints keep pods away and drive them out", func(t *testing.T) { taints(t, n) })
}

func staticPods(t *testing.T, h *framework.Host) {
	const path = "/var/lib/skiff/agent/pod-manifests/here.yaml"
	mirror := "pod/here-" + h.Hostname()
	manifest := func(word string) string {
		return strings.Replace(shell("here", "echo "+word+"; exec sleep 100000"), "restartPolicy: Never", "restartPolicy: Always", 1)
	}
	says := func(word string) {
		framework.Eventually(t, time.Minute, "the static pod says "+word, func() error {
			out, err := h.TryKubectl(t.Context(), "logs", mirror)
			if err == nil && strings.TrimSpace(out) != word {
				err = fmt.Errorf("it says %q", out)
			}
			return err
		})
	}
	h.WriteFile(t, path, manifest("one"))
	says("one")
	h.WriteFile(t, path, manifest("two"))
	says("two")
	h.Exec(t, "rm", path)
	h.Kubectl(t, "wait", "--for=delete", "--timeout=60s", mirror)
}

func customDNS(t *testing.T, n *framework.Namespace) {
	n.Apply(t, idle("asker"))
	n.Wait(t, "condition=Ready", "pod/asker")
	resolves := func(name, want string) {
		t.Helper()
		framework.Eventually(t, 30*time.Second, name+" resolves to "+want, func() error {
			out, err := n.TryExecIn(t.Context(), "asker", "nslookup", name)
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("got %q", out)
			}
			return err
		})
	}
	resolves("kubernetes.default.svc.cluster.local", "10.53.0.1")
	n.Names.Set("behind.the.stub.example.test", n.Gateway())
	resolves("behind.the.stub.example.test", n.Gateway().String())
	n.Host.Apply(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns-custom, namespace: kube-system}
data:
  corp.server: |
    corp.example.test:53 {
      hosts {
        10.1.2.3 db.corp.example.test
      }
    }
  rewrite.override: |
    rewrite name exact old.example.test kubernetes.default.svc.cluster.local
`)
	resolves("db.corp.example.test", "10.1.2.3")
	resolves("old.example.test", "10.53.0.1")
	// A mistake must not take the names away that worked.
	n.Host.Kubectl(t, "-n", "kube-system", "patch", "configmap", "coredns-custom", "-p", `{"data":{"bad.override":"no-such-plugin"}}`)
	resolves("kubernetes.default.svc.cluster.local", "10.53.0.1")
	n.Host.Kubectl(t, "-n", "kube-system", "delete", "configmap", "coredns-custom")
	framework.Eventually(t, 30*time.Second, "the user's names are gone", func() error {
		if out, err := n.TryExecIn(t.Context(), "asker", "nslookup", "db.corp.example.test"); err == nil {
			return fmt.Errorf("still %q", out)
		}
		return nil
	})
}

func kubeletAccess(t *testing.T, h *framework.Host) {
	for _, path := range []string{"/pods", "/metrics", "/run/default/x/y", "/healthz"} {
		out, err := h.Try(t.Context(), nil, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:10250"+path)
		if err != nil || out != "401" {
			t.Errorf("%s without a certificate: %q, %v", path, out, err)
		}
	}
	if out, err := h.Try(t.Context(), nil, "curl", "-s", "-m3", "http://127.0.0.1:10255/pods"); err == nil {
		t.Errorf("the read-only port is open: %q", out)
	}
	out, err := h.Try(t.Context(), nil, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:6443/api/v1/secrets")
	if err != nil || (out != "401" && out != "403") {
		t.Errorf("secrets for everybody: %q, %v", out, err)
	}
}

// falseKubelet puts a stranger in the kubelet's place.
func falseKubelet(t *testing.T, n *framework.Namespace) {
	n.Apply(t, idle("talker"))
	n.Wait(t, "condition=Ready", "pod/talker")
	n.ExecIn(t, "talker", "true")
	cert, key := certificate(t, n.Hostname())
	n.WriteFile(t, "/srv/stranger/tls.crt", cert)
	n.WriteFile(t, "/srv/stranger/tls.key", key)
	stranger, err := n.Start(t.Context(), nshost.Cmd{Args: []string{"openssl", "s_server", "-quiet", "-accept", "11250", "-cert", "/srv/stranger/tls.crt", "-key", "/srv/stranger/tls.key", "-www"}})
	if err != nil {
		t.Fatal(err)
	}
	awaitPort(t, n.Host, stranger, "11250")
	n.Exec(t, "nft", "add table ip stranger; add chain ip stranger out { type nat hook output priority -150; }; add rule ip stranger out tcp dport 10250 redirect to :11250")
	// Unlike logs, exec makes a connection of its own each time.
	out, err := n.TryExecIn(t.Context(), "talker", "true")
	n.Exec(t, "nft", "delete table ip stranger")
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("with a stranger in the kubelet's place: %q, %v", out, err)
	}
	n.ExecIn(t, "talker", "true")
}

func taints(t *testing.T, n *framework.Namespace) {
	node := n.Hostname()
	tolerant := "  tolerations: [{key: example.com/full, operator: Exists}]"
	n.Apply(t, idle("resident"))
	n.Wait(t, "condition=Ready", "pod/resident")
	n.Host.Kubectl(t, "taint", "node", node, "example.com/full=yes:NoSchedule")
	t.Cleanup(func() {
		_, _ = n.Host.TryKubectl(context.Background(), "taint", "node", node, "example.com/full-")
	})
	n.Apply(t, idle("newcomer")+with(idle("tolerant"), tolerant))
	n.Wait(t, "condition=Ready", "pod/tolerant", "pod/resident")
	mustWait(t, n, "newcomer", "untolerated taint")
	n.Host.Kubectl(t, "taint", "node", node, "example.com/full=yes:NoExecute")
	n.Wait(t, "delete", "pod/resident")
	n.Wait(t, "condition=Ready", "pod/tolerant")
	n.Host.Kubectl(t, "taint", "node", node, "example.com/full-")
	n.Wait(t, "condition=Ready", "pod/newcomer")
}
