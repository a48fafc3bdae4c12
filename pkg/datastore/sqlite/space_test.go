package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

// smallDisk is a file system of so many MiB.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Skipf("can not mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// leave fills a file system up to so many KiB.
func leave(t *testing.T, dir string, kib uint64) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	if err := os.RemoveAll(ballast); err != nil {
		t.Fatal(err)
	}
	free, _, err := available(dir)
	if err != nil || free < kib<<10 {
		t.Fatalf("%d KiB are free: %v", free>>10, err)
	}
	err = os.WriteFile(ballast, make([]byte, free-kib<<10), 0o600)
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// noted is a log that is kept.
type noted struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *noted) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *noted) has(t *testing.T, want string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !strings.Contains(n.text.String(), want) {
		t.Errorf("the log does not say %q: %s", want, n.text.String())
	}
}

func (n *noted) entry() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(n)
	return logrus.NewEntry(l)
}

// metric is the value of one without labels, or with the one given.
func metric(t *testing.T, d *Datastore, name, label string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	for _, c := range d.Metrics() {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s %s", name, label)
	return 0
}

func TestTheDiskIsSpokenOfBeforeItIsFull(t *testing.T) {
	dir := smallDisk(t, 64) // speaks of it below 6.4 MiB, refuses creating below 1.28, changing below 0.64
	log := new(noted)
	d := New(Config{Path: dir + "/db/state.db", Socket: t.TempDir() + "/kine.sock"}, log.entry())
	i := attach(t, d)
	revision := mustCreate(t, i.Client, "/a", "1")
	if alarm := metric(t, d, "skiff_datastore_space_alarm", ""); alarm != 0 {
		t.Errorf("the alarm is %v with space left", alarm)
	}
	leave(t, dir, 5<<10)
	revision = mustUpdate(t, i.Client, "/a", "2", revision)
	log.has(t, "MiB left for the database: free some space before it is full")
	if alarm := metric(t, d, "skiff_datastore_space_alarm", ""); alarm != 1 {
		t.Errorf("the alarm is %v with 5 MiB of 64 left", alarm)
	}
	leave(t, dir, 1<<10)
	_, err := create(t.Context(), i.Client, "/b", "1")
	for _, want := range []string{"database space exceeded", "KiB left: delete objects, or free some space", dir} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("creating with 1 MiB of 64 left does not say %q: %v", want, err)
		}
	}
	log.has(t, "objects are not created any more")
	revision = mustUpdate(t, i.Client, "/a", "3", revision)
	leave(t, dir, 512)
	if _, err := update(t.Context(), i.Client, "/a", "4", revision); err == nil {
		t.Error("objects are changed with half a MiB left")
	}
	if alarm := metric(t, d, "skiff_datastore_space_alarm", ""); alarm != 3 {
		t.Errorf("the alarm is %v with half a MiB of 64 left", alarm)
	}
	mustCreate(t, i.Client, "/registry/leases/kube-node-lease/n", "alive")
	last := mustRemove(t, i.Client, "/a", revision)
	if _, err := i.Compact(t.Context(), last); err != nil {
		t.Errorf("a compaction: %v", err)
	}
	leave(t, dir, 32<<10)
	mustCreate(t, i.Client, "/b", "1")
	log.has(t, "There is space again")
}

// attach starts a datastore that was made elsewhere.
func attach(t *testing.T, d *Datastore) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- d.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	c := connect(t, d.Endpoint())
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return &instance{Client: c, store: d, cfg: d.cfg}
}

// What fills the disk may be somebody else, faster than anybody can be told.
func TestADiskThatIsFullDuringACompactionIsSurvived(t *testing.T) {
	dir := smallDisk(t, 64)
	d := start(t, dir)
	b := d.store.serving.Load().b
	b.writer.space.unlimited = true
	value := strings.Repeat("v", 20_000)
	var last int64
	revision := mustCreate(t, d.Client, "/changed", value)
	for range 300 {
		revision = mustUpdate(t, d.Client, "/changed", value, revision)
		last = revision
	}
	// The log begins again, so that the compaction has to make it longer.
	if err := b.wal.full(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.cfg.Path+"-wal", 0); err != nil {
		t.Fatal(err)
	}
	leave(t, dir, 0)
	_, err := d.Compact(t.Context(), last)
	if err == nil || !strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace)) {
		t.Errorf("a compaction on a full disk: %v", err)
	}
	if _, err := create(t.Context(), d.Client, "/full", value); err == nil {
		t.Error("a write on a full disk is acknowledged")
	}
	if r, err := d.Get(t.Context(), "/changed"); err != nil || len(r.Kvs) != 1 || r.Kvs[0].ModRevision != last {
		t.Errorf("reading on a full disk: %v", err)
	}
	leave(t, dir, 16<<10)
	if _, err := d.Compact(t.Context(), last); err != nil {
		t.Errorf("a compaction with space again: %v", err)
	}
	if _, err := d.Get(t.Context(), "/changed", clientv3.WithRev(last-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("before the compacted revision: %v", err)
	}
	mustCreate(t, d.Client, "/after", value)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	c, err := openReadOnly(d.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := quickCheck(c); err != nil {
		t.Error(err)
	}
}

func TestSizesAndWritesAreMeasured(t *testing.T) {
	d := start(t, t.TempDir())
	writes, size := metric(t, d.store, "skiff_datastore_writes_total", ""), metric(t, d.store, "skiff_datastore_written_bytes_total", "")
	mustCreate(t, d.Client, "/a", strings.Repeat("x", 100_000))
	if n := metric(t, d.store, "skiff_datastore_writes_total", "") - writes; n != 1 {
		t.Errorf("%v writes, want 1", n)
	}
	if n := metric(t, d.store, "skiff_datastore_written_bytes_total", "") - size; n != 100_002 {
		t.Errorf("%v bytes, want 100002", n)
	}
	for _, part := range []string{"file", "log", "used"} {
		if n := metric(t, d.store, "skiff_datastore_size_bytes", part); n < pageSize {
			t.Errorf("the %s has %v bytes", part, n)
		}
	}
	if n := metric(t, d.store, "skiff_datastore_disk_available_bytes", ""); n < 1<<20 {
		t.Errorf("%v bytes are available", n)
	}
}
