package sqlite

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Flash wears out by what a cluster writes that does nothing.
func TestADatabaseAtRestIsNotWritten(t *testing.T) {
	d := startCalls(t, t.TempDir())
	for i := range 20 {
		d.Watch(t.Context(), fmt.Sprintf("/registry/kind-%d/", i), clientv3.WithPrefix())
	}
	size := func() int64 {
		info, err := os.Stat(d.cfg.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	commits, before := d.store.counts.commits.Load(), size()
	<-time.After(2 * time.Second)
	if n := d.store.counts.commits.Load() - commits; n != 0 || size() != before {
		t.Errorf("%d commits at rest, and the log went from %d to %d bytes", n, before, size())
	}
	// A lease of a node, which is all that a cluster at rest renews.
	const renewals = 50
	lease := strings.Repeat("l", 500)
	revision := mustCreate(t, d.Client, "/registry/leases/kube-node-lease/node", lease)
	before = size()
	for range renewals {
		revision = mustUpdate(t, d.Client, "/registry/leases/kube-node-lease/node", lease, revision)
	}
	if each := (size() - before) / renewals; each > 20<<10 {
		t.Errorf("renewing a lease writes %d KiB", each>>10)
	}
}

func TestStepsOfACompactionAdapt(t *testing.T) {
	step := int64(firstStep)
	for range 20 {
		step = nextStep(step, stepTime/100)
	}
	if step != maxStep {
		t.Errorf("on a fast disk a step has %d revisions, want %d", step, maxStep)
	}
	if step = nextStep(step, 8*stepTime); step != maxStep/8 {
		t.Errorf("after a step that took 8 times too long the next has %d revisions, want %d", step, maxStep/8)
	}
	for range 20 {
		step = nextStep(step, time.Second)
	}
	if step != minStep {
		t.Errorf("on a slow disk a step has %d revisions, want %d", step, minStep)
	}
}
