// Package broken tests the conformance run itself: where a component of the
// server is off, the run fails and names the tests that needed it, and only
// those. `make test-conformance` builds the parts of a run and starts it;
// nobody imports it.
package broken

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each of these tests needs one of the components that are switched off, and
// not the other, so that each run shows that the other's failure has a reason.
const (
	needsDNS   = "[sig-network] DNS should provide DNS for the cluster [Conformance]"
	needsProxy = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]"
)

// patience is several times what these tests take where nothing is broken.
// Without it, upstream's would try for ten minutes.
const patience = time.Minute

func TestABrokenComponentFailsTheRun(t *testing.T) {
	parts := os.Getenv("SKIFF_CONFORMANCE")
	if parts == "" {
		t.Skip("these tests need the parts of a conformance run, which take minutes to build: sudo make test-conformance")
	}
	for name, c := range map[string]struct{ server, fails string }{
		"without DNS":               {"--disable coredns", needsDNS},
		"without the service proxy": {"--disable-kube-proxy", needsProxy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out := conformance(t, parts, "-server", c.server)
			if code != 1 {
				t.Errorf("the run ended with status %d, want 1", code)
			}
			if failed := failures(out); !slices.Equal(failed, []string{c.fails}) {
				t.Errorf("the run named %q, want %q", failed, c.fails)
			}
			if !strings.Contains(out, "\nconformance: 1 passed, 1 failed, 0 skipped, ") {
				t.Error("the run did not count one test that passed and one that failed")
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// conformance runs both tests, and gives the exit status and what was said.
func conformance(t *testing.T, parts string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	results := t.TempDir()
	cmd := exec.CommandContext(ctx, filepath.Join(parts, "runner"), append([]string{
		"-parts", parts, "-lists", filepath.Join("..", "lists"), "-upstream", kubernetes(t),
		"-results", results, "-timeout", patience.String(),
		"-focus", regexp.QuoteMeta(needsDNS) + "|" + regexp.QuoteMeta(needsProxy),
	}, args...)...)
	cmd.Env = append(os.Environ(), "KEEP=never") // the server's log of a failure that is wanted
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	said, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if log, err := os.ReadFile(filepath.Join(results, "e2e.log")); err == nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s", log)
			}
		})
	}
	return cmd.ProcessState.ExitCode(), string(bytes.TrimSpace(said))
}

// failures are the names in the summary of a run.
func failures(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "FAILED:"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// kubernetes is the directory of the Kubernetes module.
func kubernetes(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
