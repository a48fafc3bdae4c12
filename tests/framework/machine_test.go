package framework

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

func TestWhatIsLeftOnTheMachineIsFound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces can be made by root only")
	}
	const run = "leak"
	before, err := lookAt(run)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return before.awaitSame(ctx, run)
	}
	if err := check(); err != nil {
		t.Fatalf("before: %v", err)
	}
	n, err := nshost.NewNetwork(nshost.LinkName(run) + "n1")
	if err != nil {
		t.Fatal(err)
	}
	const group = "/sys/fs/cgroup/pids/skifftest-" + run
	cgroups := os.Mkdir(group, 0o755) == nil // version 1 only
	err = check()
	if err == nil || !strings.Contains(err.Error(), n.Name) || cgroups && !strings.Contains(err.Error(), group) {
		t.Errorf("a bridge and a cgroup were left, and the check says %v", err)
	}
	if cgroups {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := check(); err != nil {
		t.Errorf("after: %v", err)
	}
}
