package framework

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// TryKubectl runs `skiff kubectl` in the host.
func (h *Host) TryKubectl(ctx context.Context, args ...string) (string, error) {
	return h.Try(ctx, nil, kubectl(args)...)
}

// Kubectl runs `skiff kubectl`, which must succeed, and gives its output
// without surrounding white space.
func (h *Host) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return h.KubectlIn(t, nil, args...)
}

// KubectlIn is Kubectl with something on standard input.
func (h *Host) KubectlIn(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	out, err := h.Try(t.Context(), stdin, kubectl(args)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// KubectlFails runs `skiff kubectl`, which must fail, and gives what it said.
func (h *Host) KubectlFails(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	out, err := h.Try(t.Context(), stdin, kubectl(args)...)
	var failed *nshost.ExitError
	if !errors.As(err, &failed) {
		t.Fatalf("kubectl %s: expected a failure, got %v and %q", strings.Join(args, " "), err, out)
	}
	return failed.Stderr
}

// Apply applies manifests.
func (h *Host) Apply(t testing.TB, manifests string) {
	t.Helper()
	h.KubectlIn(t, strings.NewReader(manifests), "apply", "-f", "-")
}

func kubectl(args []string) []string { return append([]string{"skiff", "kubectl"}, args...) }
