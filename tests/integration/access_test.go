package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// tlsPod is a pod of the web image that serves TLS, and its Service.
func tlsPod(t *testing.T, n *framework.Namespace, name, mode string) (cert string) {
	t.Helper()
	cert, key := certificate(t, name+"."+n.Name+".svc")
	n.KubectlIn(t, strings.NewReader(cert), "-n", n.Name, "create", "configmap", "cert", "--from-file=tls.crt=/dev/stdin")
	n.KubectlIn(t, strings.NewReader(key), "-n", n.Name, "create", "secret", "generic", "key", "--from-file=tls.key=/dev/stdin")
	n.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: tls, projected: {sources: [{configMap: {name: cert}}, {secret: {name: key}}]}}]
  containers:
  - name: main
    image: skiff/web:test
    args: [%[2]s, /tls]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
    volumeMounts: [{name: tls, mountPath: /tls}]
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {selector: {app: %[1]s}, ports: [{port: 443, targetPort: 8443}]}
`, name, mode))
	n.Wait(t, "condition=Ready", "pod/"+name)
	return cert
}

func TestAggregatedAPI(t *testing.T) {
	n := cluster(t)
	tlsPod(t, n, "extension", "aggregated")
	n.Apply(t, fmt.Sprintf(`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.extension.example.com}
spec:
  group: extension.example.com
  version: v1
  groupPriorityMinimum: 10
  versionPriority: 10
  insecureSkipTLSVerify: true
  service: {name: extension, namespace: %s}
`, n.Name))
	t.Cleanup(func() { cleanUp(t, n.Host, "apiservice", "v1.extension.example.com") })
	n.Wait(t, "condition=Available", "apiservice/v1.extension.example.com")
	out := n.Kubectl(t, "get", "--raw", "/apis/extension.example.com/v1/things")
	var answer struct{ User, Path, Certificate, Issuer string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if answer.User == "" || answer.Path != "/apis/extension.example.com/v1/things" || answer.Certificate == "" {
		t.Errorf("the extension was asked %+v", answer)
	}
	// It is how an extension tells the API server from everybody else.
	published := n.Host.Kubectl(t, "-n", "kube-system", "get", "configmap", "extension-apiserver-authentication", "-o", "jsonpath={.data.requestheader-allowed-names}{.data.requestheader-client-ca-file}")
	if !strings.Contains(published, fmt.Sprintf("%q", answer.Certificate)) || !strings.Contains(published, "BEGIN CERTIFICATE") {
		t.Errorf("%s is not what is published for extensions: %s", answer.Certificate, published)
	}
	if out := n.Host.Kubectl(t, "get", "apiservices", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Available")].status} {end}`); strings.Contains(out, "=False") {
		t.Errorf("APIs that are not available: %s", out)
	}
}

func TestANodeMayChangeOnlyWhatIsItsOwn(t *testing.T) {
	n := cluster(t)
	agent := "/var/lib/skiff/agent/"
	asNode := []string{"--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify",
		"--client-certificate=" + agent + "client-kubelet.crt", "--client-key=" + agent + "client-kubelet.key"}
	node := n.Hostname()
	if out := n.Host.Kubectl(t, append(asNode, "get", "node", node, "-o", "name")...); out != "node/"+node {
		t.Fatalf("as the node: %q", out)
	}
	n.Kubectl(t, "create", "secret", "generic", "unrelated", "--from-literal=a=b")
	for _, refused := range [][]string{
		{"label", "node", node, "node-restriction.kubernetes.io/zone=secure"},
		{"label", "node", node, "node-role.kubernetes.io/boss=true"},
		{"create", "namespace", "of-the-node"},
		{"-n", n.Name, "get", "secret", "unrelated"},
		{"get", "secrets", "-A"},
	} {
		if out := n.Host.KubectlFails(t, nil, append(asNode, refused...)...); !strings.Contains(strings.ToLower(out), "forbidden") && !strings.Contains(out, "is not allowed") {
			t.Errorf("%s: %s", strings.Join(refused, " "), out)
		}
	}
}
