package integration

import (
	"fmt"
	"strings"
	"testing"
)

func TestLimitsAreInTheCgroup(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:test
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 500m, memory: 48Mi}}
    command:
    - sh
    - -c
    - |
      cd /sys/fs/cgroup
      if [ -e memory.max ]; then cat memory.max cpu.max
      else cat memory/memory.limit_in_bytes; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); fi
`)
	n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/limited")
	if got := n.Kubectl(t, "logs", "limited"); got != "50331648\n50000 100000" {
		t.Errorf("the cgroup says %q", got)
	}
	if got := n.Get(t, "pod/limited", ".status.qosClass"); got != "Burstable" {
		t.Errorf("the QoS class is %s", got)
	}
}

func TestOutOfMemoryIsReported(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: skiff/web:test, resources: {limits: {memory: 64Mi}}}
`)
	n.Wait(t, "condition=Ready", "pod/hungry")
	// The answer never comes: the kernel kills the server.
	_, _ = n.TryKubectl(t.Context(), "get", "--raw", "/api/v1/namespaces/"+n.Name+"/pods/hungry:8080/proxy/alloc?mib=200")
	n.Wait(t, "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}=OOMKilled", "pod/hungry")
	if got := n.Get(t, "pod/hungry", ".status.containerStatuses[0].lastState.terminated.exitCode"); got != "137" {
		t.Errorf("the exit code is %s", got)
	}
	n.Wait(t, "condition=Ready", "pod/hungry")
}

func TestResourceQuota(t *testing.T) {
	n := cluster(t)
	n.Kubectl(t, "create", "quota", "small", "--hard=pods=1,requests.cpu=200m,configmaps=3")
	n.Wait(t, "jsonpath={.status.used.pods}=0", "quota/small")
	if out := n.KubectlFails(t, idle("box"), "apply", "-f", "-"); !strings.Contains(out, "must specify requests.cpu") {
		t.Errorf("without a request: %s", out)
	}
	n.Apply(t, `
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
  - {type: Container, default: {cpu: 150m}, defaultRequest: {cpu: 150m}, max: {cpu: 300m}}
`)
	n.Apply(t, idle("box"))
	if got := n.Get(t, "pod/box", ".spec.containers[0].resources.limits.cpu"); got != "150m" {
		t.Errorf("the LimitRange gave %s", got)
	}
	big := strings.Replace(idle("big"), "image: busybox:test", "image: busybox:test, resources: {limits: {cpu: 400m}}", 1)
	if out := n.KubectlFails(t, big, "apply", "-f", "-"); !strings.Contains(out, "maximum cpu usage per Container is 300m") {
		t.Errorf("beyond the LimitRange: %s", out)
	}
	if out := n.KubectlFails(t, idle("second"), "apply", "-f", "-"); !strings.Contains(out, "exceeded quota: small") {
		t.Errorf("beyond the quota: %s", out)
	}
	n.Kubectl(t, "delete", "pod", "box")
	n.Wait(t, "jsonpath={.status.used.pods}=0", "quota/small")
	n.Apply(t, idle("second"))
}

func TestDisruptionBudget(t *testing.T) {
	n := cluster(t)
	n.Apply(t, web("web", 2)+`
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
`)
	n.Kubectl(t, "rollout", "status", "deployment/web", "--timeout=100s")
	n.Wait(t, "jsonpath={.status.currentHealthy}=2", "pdb/web")
	pod := n.Get(t, "pods", ".items[0].metadata.name")
	eviction := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod, n.Name)
	evict := []string{"create", "--raw", "/api/v1/namespaces/" + n.Name + "/pods/" + pod + "/eviction", "-f", "-"}
	if out := n.KubectlFails(t, eviction, evict...); !strings.Contains(out, "violate the pod's disruption budget") {
		t.Errorf("the eviction was refused with %q", out)
	}
	n.Kubectl(t, "patch", "pdb", "web", "-p", `{"spec":{"minAvailable":1}}`)
	n.Wait(t, "jsonpath={.status.disruptionsAllowed}=1", "pdb/web")
	n.KubectlIn(t, strings.NewReader(eviction), append([]string{"-n", n.Name}, evict...)...)
	n.Wait(t, "delete", "pod/"+pod)
}
