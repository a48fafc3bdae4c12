package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// lockOut lets nobody connect to an agent, and starts the agent anew, so that
// no connection is left that could serve.
func (c *cluster) lockOut(t *testing.T, i int) {
	t.Helper()
	edge := c.agents[i].Host
	edge.NoInbound(t, true)
	c.agents[i].MustStopCleanly(t)
	c.startAgent(t, i)
	c.agents[i].AwaitReady(t)
	mustBeShut(t, c.server.Host, edge)
}

// mustBeShut tries to connect to a host's kubelet.
func mustBeShut(t *testing.T, from, to *framework.Host) {
	t.Helper()
	for _, a := range to.Addresses() {
		if out, err := from.Try(t.Context(), nil, "busybox", "nc", "-w", "2", a.String(), "10250"); err == nil {
			t.Fatalf("%s can connect to %s, so this test tests nothing: %s", from.Hostname(), to.Hostname(), out)
		}
	}
}

// onTwo is a pod of the web image, and one with a shell, on the second agent's node.
const onTwo = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: skiff/web:test
    readinessProbe: {httpGet: {path: /probe/ready, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox:test, command: [sh, -c, "echo it speaks; sleep 100000"]}]
---
`

func testNoInbound(t *testing.T, c *cluster) {
	edge := c.agents[1].Host
	c.lockOut(t, 1)
	defer edge.NoInbound(t, false)
	n := c.newNamespace(t)
	n.Apply(t, onTwo)
	n.Wait(t, "condition=Ready", "pod/web", "pod/shell")

	speaks := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := n.TryKubectl(ctx, "logs", "shell")
		if err == nil && !strings.Contains(out, "it speaks") {
			err = fmt.Errorf("logs: %q", out)
		}
		return err
	}
	framework.Eventually(t, patience, "logs come through", speaks)
	if got := n.ExecIn(t, "shell", "sh", "-c", "echo from $HOSTNAME"); got != "from shell" {
		t.Errorf("exec: %q", got)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	if got := n.KubectlIn(t, strings.NewReader(big), "-n", n.Name, "exec", "-i", "shell", "--", "sha256sum"); !strings.HasPrefix(got, fmt.Sprintf("%x ", sha256.Sum256([]byte(big)))) {
		t.Errorf("exec with a megabyte of input: sha256sum says %q", got)
	}
	if out := n.Kubectl(t, "get", "--raw", "/api/v1/nodes/two/proxy/metrics/resource"); !strings.Contains(out, "node_cpu_usage_seconds_total") {
		t.Errorf("metrics of the kubelet: %.200q", out)
	}
	g := &grid{cluster: c, Namespace: n}
	g.awaitForwarded(t, pod{name: "web"})
	// Without attaching: kubectl shows nothing of a pod that ends before it is attached.
	said := n.Kubectl(t, "debug", "node/two", "--image=busybox:test", "--image-pull-policy=Never", "--profile=sysadmin", "--attach=false", "--", "chroot", "/host", "hostname")
	debugger := regexp.MustCompile(`node-debugger-two-\w+`).FindString(said)
	if debugger == "" {
		t.Fatalf("kubectl debug names no pod: %q", said)
	}
	n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/"+debugger)
	if got := n.Kubectl(t, "logs", debugger); got != "two" {
		t.Errorf("debug node: %q", got)
	}

	// The other direction, for programs on the node.
	if got := edge.ReadFile(t, kubeletConfig); !strings.Contains(got, "https://127.0.0.1:6444") {
		t.Errorf("the node's kubeconfig leads elsewhere than to the load balancer:\n%s", got)
	}
	if got := edge.Kubectl(t, "--kubeconfig", kubeletConfig, "get", "node", "two", "-o", "name"); got != "node/two" {
		t.Errorf("kubectl on the node: %q", got)
	}

	// Both ends make it anew by themselves.
	c.server.Kill9(t)
	c.startServer(t)
	framework.Eventually(t, patience, "logs come through after the server's restart", speaks)
	c.agents[1].MustStopCleanly(t)
	c.startAgent(t, 1)
	framework.Eventually(t, patience, "logs come through after the agent's restart", speaks)
}

// kubeletConfig is where an agent's kubelet has its way to the API.
const kubeletConfig = "/var/lib/skiff/agent/kubelet.kubeconfig"

// A control plane without a node of its own is not in the pods' network. With
// the mode "cluster" it reaches pods and Services all the same.
func TestPodsAndServicesOfNodesThatNobodyCanConnectTo(t *testing.T) {
	framework.InEachKind(t, testNoPodNetwork)
}

func testNoPodNetwork(t *testing.T, k framework.Kind) {
	c := suite.NewCluster(t, k.Families...)
	near, edge := c.NewHost(t, "server"), c.NewHost(t, "two")
	if err := edge.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	edge.NoInbound(t, true)
	agent := edge.StartAgent(t, near.StartServer(t, append(k.Server, "--disable-agent", "--egress-selector-mode=cluster")...))
	agent.AwaitReady(t)
	mustBeShut(t, near, edge)
	n := near.NewNamespace(t)
	cert, key := selfSigned(t)
	n.KubectlIn(t, strings.NewReader(key), "-n", n.Name, "create", "secret", "generic", "tls", "--from-file=tls.key=/dev/stdin")
	n.KubectlIn(t, strings.NewReader(cert), "-n", n.Name, "create", "configmap", "tls", "--from-file=tls.crt=/dev/stdin")
	n.Apply(t, onTwo)
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: extension, labels: {app: extension}}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 1
  volumes: [{name: tls, projected: {sources: [{configMap: {name: tls}}, {secret: {name: tls}}]}}]
  containers:
  - name: main
    image: skiff/web:test
    args: [aggregated, /tls]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1, timeoutSeconds: 10}
    volumeMounts: [{name: tls, mountPath: /tls}]
---
apiVersion: v1
kind: Service
metadata: {name: extension}
spec: {selector: {app: extension}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.tunnelled.example.com}
spec:
  group: tunnelled.example.com
  version: v1
  groupPriorityMinimum: 10
  versionPriority: 10
  insecureSkipTLSVerify: true
  service: {name: extension, namespace: `+n.Name+`}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: two
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: skiff/web:test, ports: [{containerPort: 8080}]}]
---
`)
	n.Wait(t, "condition=Ready", "pod/web", "pod/extension", "pod/host")
	for pod, want := range map[string]string{"web:8080": "hello from web", "host:8080": "hello from two"} {
		framework.Eventually(t, patience, "the pod "+pod+" by way of the API server", func() error {
			got, err := n.TryKubectl(t.Context(), "get", "--raw", "/api/v1/namespaces/"+n.Name+"/pods/"+pod+"/proxy/")
			if err == nil {
				err = is(want)(got)
			}
			return err
		})
	}
	n.Wait(t, "condition=Available", "apiservice/v1.tunnelled.example.com")
	framework.Eventually(t, patience, "the extension by way of the API server", func() error {
		out, err := n.TryKubectl(t.Context(), "get", "--raw", "/apis/tunnelled.example.com/v1/things")
		if err == nil && !strings.Contains(out, "/apis/tunnelled.example.com/v1/things") {
			err = fmt.Errorf("it answers %q", out)
		}
		return err
	})
	// The host's own services are nobody's pods.
	if out := near.KubectlFails(t, nil, "get", "--raw", "/api/v1/namespaces/"+n.Name+"/pods/host:10256/proxy/healthz"); !strings.Contains(out, "no pod on node two") {
		t.Errorf("a port that no pod declares: %s", out)
	}
}

// selfSigned is any certificate with its key, in PEM.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	s.Close()
	c := s.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, data []byte) string {
		var b bytes.Buffer
		if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: data}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	return encode("CERTIFICATE", c.Certificate[0]), encode("PRIVATE KEY", der)
}
