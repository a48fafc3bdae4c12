package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// with adds lines to the specification of a pod made by shell or idle.
func with(pod, lines string) string {
	return strings.Replace(pod, "spec:\n", "spec:\n"+lines+"\n", 1)
}

// mustWait waits until the scheduler has said that there is no place for a pod.
func mustWait(t *testing.T, n *framework.Namespace, pod, why string) {
	t.Helper()
	n.Wait(t, "condition=PodScheduled=false", "pod/"+pod)
	if got := n.Get(t, "pod/"+pod, `.status.conditions[?(@.type=="PodScheduled")].message`); !strings.Contains(got, why) {
		t.Errorf("%s waits because of %q, want %q", pod, got, why)
	}
}

func TestPriorityAndPreemption(t *testing.T) {
	n := cluster(t)
	// A resource that nobody else uses, so that other tests' pods are safe.
	n.Host.Kubectl(t, "patch", "node", n.Hostname(), "--subresource=status", "--type=merge", "-p", `{"status":{"capacity":{"example.com/seat":"1"}}}`)
	n.Wait(t, `jsonpath={.status.allocatable.example\.com/seat}=1`, "node/"+n.Hostname())
	for name, value := range map[string]string{"low": "10", "high": "1000"} {
		n.Kubectl(t, "create", "priorityclass", n.Name+"-"+name, "--value="+value)
		t.Cleanup(func() { cleanUp(t, n.Host, "priorityclass", n.Name+"-"+name) })
	}
	seated := func(name, priority string) string {
		return strings.Replace(with(idle(name), "  priorityClassName: "+n.Name+"-"+priority),
			"image: busybox:test", `image: busybox:test, resources: {limits: {example.com/seat: "1"}}`, 1)
	}
	n.Apply(t, seated("modest", "low"))
	n.Wait(t, "condition=Ready", "pod/modest")
	n.Apply(t, seated("equal", "low"))
	mustWait(t, n, "equal", "Insufficient example.com/seat")
	n.Apply(t, seated("important", "high"))
	n.Wait(t, "condition=Ready", "pod/important")
	framework.Eventually(t, 20*time.Second, "the event of the pre-emption", func() error {
		out, err := n.TryKubectl(t.Context(), "get", "events", "--field-selector=reason=Preempted", "-o", "jsonpath={.items[*].involvedObject.name}")
		if err == nil && !strings.Contains(out, "modest") {
			err = fmt.Errorf("events for %q", out)
		}
		return err
	})
	mustWait(t, n, "equal", "Insufficient example.com/seat")
}

// cleanUp deletes an object outside of the test's namespace after the test.
func cleanUp(t *testing.T, h *framework.Host, kind, name string) {
	if _, err := h.TryKubectl(context.Background(), "delete", kind, name, "--ignore-not-found", "--wait=false"); err != nil {
		t.Error(err)
	}
}

func TestAffinity(t *testing.T) {
	n := cluster(t)
	required := func(kind, key, value string) string {
		return fmt.Sprintf(`  affinity:
    %s:
      requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {%s: %s}}`, kind, key, value)
	}
	node := func(zone string) string { return "  nodeSelector: {kubernetes.io/hostname: " + zone + "}" }
	n.Apply(t, with(idle("here"), node(n.Hostname()))+with(idle("nowhere"), node("elsewhere"))+
		with(idle("friend"), required("podAffinity", "app", "late")))
	n.Wait(t, "condition=Ready", "pod/here")
	mustWait(t, n, "nowhere", "didn't match Pod's node affinity/selector")
	mustWait(t, n, "friend", "didn't match pod affinity rules")
	n.Apply(t, idle("late"))
	n.Wait(t, "condition=Ready", "pod/friend")
	n.Apply(t, with(idle("enemy"), required("podAntiAffinity", "app", "here")))
	mustWait(t, n, "enemy", "didn't match pod anti-affinity rules")
	n.Kubectl(t, "delete", "pod", "here")
	n.Wait(t, "condition=Ready", "pod/enemy")
}

func TestTopologySpread(t *testing.T) {
	n := cluster(t)
	// With one node where two are asked for, the other counts as empty.
	spread := `  topologySpreadConstraints:
  - maxSkew: 1
    minDomains: 2
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: DoNotSchedule
    labelSelector: {matchExpressions: [{key: app, operator: In, values: [one, two]}]}`
	n.Apply(t, with(idle("one"), spread))
	n.Wait(t, "condition=Ready", "pod/one")
	n.Apply(t, with(idle("two"), spread))
	mustWait(t, n, "two", "didn't match pod topology spread constraints")
	n.Kubectl(t, "delete", "pod", "one")
	n.Wait(t, "condition=Ready", "pod/two")
}

func TestASchedulerOfTheUsers(t *testing.T) {
	n := cluster(t)
	n.Apply(t, with(idle("customer"), "  schedulerName: users-own"))
	n.Kubectl(t, "create", "serviceaccount", "scheduler")
	binding := n.Name + "-scheduler"
	n.Host.Kubectl(t, "create", "clusterrolebinding", binding, "--clusterrole=system:kube-scheduler", "--serviceaccount="+n.Name+":scheduler")
	t.Cleanup(func() { cleanUp(t, n.Host, "clusterrolebinding", binding) })
	if phase := n.Get(t, "pod/customer", ".status.phase"); phase != "Pending" {
		t.Errorf("without its scheduler the pod is %s", phase)
	}
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: scheduler}
spec:
  serviceAccountName: scheduler
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: skiff/web:test, args: [scheduler, users-own]}]
`)
	n.Wait(t, "condition=Ready", "pod/customer")
	if out := n.Kubectl(t, "logs", "scheduler"); !strings.Contains(out, "bound "+n.Name+"/customer") {
		t.Errorf("the scheduler says %q", out)
	}
}
