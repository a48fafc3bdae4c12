package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// updateTimeout is how long a kubelet may take to bring a change into a
// volume: it looks after each pod once in 60 to 90 seconds.
const updateTimeout = 150 * time.Second

func TestConfigMapsAndSecretsReachPods(t *testing.T) {
	n := cluster(t)
	n.Kubectl(t, "create", "configmap", "config", "--from-literal=key=one")
	n.Kubectl(t, "create", "secret", "generic", "secret", "--from-literal=key=hidden one")
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: config, configMap: {name: config}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - name: both
    projected: {sources: [{configMap: {name: config}}, {secret: {name: secret, items: [{key: key, path: hidden}]}}]}
  containers:
  - name: main
    image: busybox:test
    command: [sleep, "100000"]
    env: [{name: KEY, valueFrom: {configMapKeyRef: {name: config, key: key}}}]
    volumeMounts: [{name: config, mountPath: /config}, {name: secret, mountPath: /secret}, {name: both, mountPath: /both}]
`)
	n.Wait(t, "condition=Ready", "pod/reader")
	script := `echo "$KEY"; cat /config/key; echo; cat /secret/key; echo; cat /both/key; echo; cat /both/hidden`
	if got := n.ExecIn(t, "reader", "sh", "-c", script); got != "one\none\nhidden one\none\nhidden one" {
		t.Errorf("got %q", got)
	}
	if got := n.ExecIn(t, "reader", "sh", "-c", "df -T /secret | tail -1; stat -Lc %a /secret/key"); !strings.Contains(got, "tmpfs") || !strings.HasSuffix(got, "400") {
		t.Errorf("the secret's volume is %q", got)
	}
	n.Kubectl(t, "patch", "configmap", "config", "-p", `{"data":{"key":"two"}}`)
	n.Kubectl(t, "patch", "secret", "secret", "-p", `{"stringData":{"key":"hidden two"}}`)
	framework.Eventually(t, updateTimeout, "the volumes follow", func() error {
		got, err := n.TryExecIn(t.Context(), "reader", "sh", "-c", script)
		// A variable of the environment keeps its value.
		if err == nil && got != "one\ntwo\nhidden two\ntwo\nhidden two" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

func TestProjectedTokens(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Pod
metadata: {name: holder}
spec:
  serviceAccountName: robot
  terminationGracePeriodSeconds: 1
  volumes:
  - name: token
    projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}
  containers:
  - {name: main, image: busybox:test, command: [sleep, "100000"], volumeMounts: [{name: token, mountPath: /token}]}
  - {name: web, image: skiff/web:test}
`)
	n.Wait(t, "condition=Ready", "pod/holder")
	token := n.ExecIn(t, "holder", "cat", "/token/token")
	review := func(audience string) (authenticated bool, user string) {
		t.Helper()
		out := n.KubectlIn(t, strings.NewReader(fmt.Sprintf(
			`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":%q,"audiences":[%q]}}`, token, audience)),
			"create", "-f", "-", "-o", "json")
		var r struct {
			Status struct {
				Authenticated bool
				User          struct{ Username string }
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		return r.Status.Authenticated, r.Status.User.Username
	}
	if ok, user := review("vault"); !ok || user != "system:serviceaccount:"+n.Name+":robot" {
		t.Errorf("for its audience: %v, %s", ok, user)
	}
	if ok, _ := review("bank"); ok {
		t.Error("the token is valid for another audience")
	}

	t.Run("the default token opens the API, as far as RBAC lets it", func(t *testing.T) {
		call := []string{"exec", "holder", "-c", "web", "--", "/web", "api", "/api/v1/namespaces/" + n.Name + "/pods"}
		if out, err := n.TryKubectl(t.Context(), call...); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("without a role: %q, %v", out, err)
		}
		n.Kubectl(t, "create", "rolebinding", "view", "--clusterrole=view", "--serviceaccount="+n.Name+":robot")
		framework.Eventually(t, 20*time.Second, "the role takes effect", func() error {
			out, err := n.TryKubectl(t.Context(), call...)
			if err == nil && !strings.Contains(out, `"holder"`) {
				err = fmt.Errorf("got %q", out)
			}
			return err
		})
	})
	t.Run("the token ends with its pod", func(t *testing.T) {
		n.Kubectl(t, "delete", "pod", "holder")
		// The API server remembers for ten seconds that it was valid.
		framework.Eventually(t, 30*time.Second, "the token is invalid", func() error {
			if ok, _ := review("vault"); ok {
				return errors.New("it is valid although its pod is gone")
			}
			return nil
		})
	})
	t.Run("the issuer can be discovered", func(t *testing.T) {
		out := n.Kubectl(t, "get", "--raw", "/.well-known/openid-configuration")
		if !strings.Contains(out, "https://kubernetes.default.svc.cluster.local") {
			t.Errorf("got %s", out)
		}
	})
}

func TestEmptyDirs(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: memory}
spec:
  restartPolicy: Never
  volumes: [{name: scratch, emptyDir: {medium: Memory, sizeLimit: 8Mi}}]
  containers:
  - name: main
    image: busybox:test
    command: [sh, -c, 'dd if=/dev/zero of=/scratch/file bs=1M count=9 2>&1; stat -fc %T /scratch; wc -c </scratch/file']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: scratch, emptyDir: {sizeLimit: 4Mi}}]
  containers:
  - name: main
    image: busybox:test
    command: [sh, -c, 'dd if=/dev/zero of=/scratch/file bs=1M count=8; exec sleep 100000']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
`)
	n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/memory")
	if out := n.Kubectl(t, "logs", "memory"); !strings.Contains(out, "No space left") || !strings.HasSuffix(out, "tmpfs\n8388608") {
		t.Errorf("in memory: %q", out)
	}
	// The kubelet looks at volumes once a minute, and then evicts.
	framework.Eventually(t, 4*time.Minute, "the greedy pod is evicted", func() error {
		_, err := n.TryKubectl(t.Context(), "wait", "--timeout=30s", "--for=jsonpath={.status.phase}=Failed", "pod/greedy")
		return err
	})
	if got := n.Get(t, "pod/greedy", ".status.reason") + ": " + n.Get(t, "pod/greedy", ".status.message"); !strings.HasPrefix(got, "Evicted: Usage of EmptyDir volume") {
		t.Errorf("on the disk: %s", got)
	}
}
