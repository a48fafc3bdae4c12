package framework

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Namespace is a namespace of a running cluster that belongs to one test.
type Namespace struct {
	*Host
	Name string
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// NewNamespace makes a namespace named after the test. It goes with the test;
// when that failed, what was in it is kept first.
func (h *Host) NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	name = strings.TrimPrefix(name, "test")
	if len(name) > 40 {
		name = strings.Trim(name[:40], "-")
	}
	n := &Namespace{Host: h, Name: name}
	h.Kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		ctx := context.Background()
		if t.Failed() {
			h.suite.NoteFailure()
			n.dump(t.Name(), t.Log)
		}
		if _, err := h.TryKubectl(ctx, "delete", "namespace", name, "--wait=false", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	// One at a time: kubectl gives up at once when two of them are missing.
	for _, object := range []string{"configmap/kube-root-ca.crt", "serviceaccount/default"} {
		h.Kubectl(t, "wait", "--for=create", "--timeout=300s", "-n", name, object)
	}
	return n
}

// Kubectl is Host.Kubectl in this namespace.
func (n *Namespace) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return n.Host.Kubectl(t, n.in(args)...)
}

// KubectlFails is Host.KubectlFails in this namespace.
func (n *Namespace) KubectlFails(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	return n.Host.KubectlFails(t, strings.NewReader(stdin), n.in(args)...)
}

// TryKubectl is Host.TryKubectl in this namespace.
func (n *Namespace) TryKubectl(ctx context.Context, args ...string) (string, error) {
	return n.Host.TryKubectl(ctx, n.in(args)...)
}

// Apply applies manifests in this namespace.
func (n *Namespace) Apply(t testing.TB, manifests string) {
	t.Helper()
	n.KubectlIn(t, strings.NewReader(manifests), n.in([]string{"apply", "-f", "-"})...)
}

// Wait waits for a condition: it is kubectl wait, with a bound for a loaded
// machine.
func (n *Namespace) Wait(t testing.TB, condition string, objects ...string) {
	t.Helper()
	args := append([]string{"wait", "--timeout=300s", "--for=" + condition}, objects...)
	n.Kubectl(t, args...)
}

// Get reads one value of an object by a JSONPath expression without braces.
func (n *Namespace) Get(t testing.TB, object, path string) string {
	t.Helper()
	return n.Kubectl(t, "get", object, "-o", "jsonpath={"+path+"}")
}

// ExecIn runs a command in a pod's first container.
func (n *Namespace) ExecIn(t testing.TB, pod string, command ...string) string {
	t.Helper()
	return n.Kubectl(t, append([]string{"exec", pod, "--"}, command...)...)
}

// TryExecIn is ExecIn for a command that may fail.
func (n *Namespace) TryExecIn(ctx context.Context, pod string, command ...string) (string, error) {
	out, err := n.TryKubectl(ctx, append([]string{"exec", pod, "--"}, command...)...)
	return strings.TrimSpace(out), err
}

func (n *Namespace) in(args []string) []string {
	return append([]string{"-n", n.Name}, args...)
}

func (n *Namespace) dump(test string, say func(...any)) {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "all,pvc,pv,networkpolicies", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"describe", "pods"},
	} {
		out, err := n.TryKubectl(context.Background(), args...)
		fmt.Fprintf(&b, "$ kubectl %s\n%s\n", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	say(fmt.Sprintf("the state of namespace %s%s", n.Name, n.suite.keep(test, "namespace-"+n.Name+".txt", b.String())))
}

// NoteFailure has the evidence of shared hosts kept at the end.
func (s *Suite) NoteFailure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = true
}
