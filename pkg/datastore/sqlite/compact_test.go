package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestACompactionKeepsTheNewestStateOnly(t *testing.T) {
	dir := t.TempDir()
	d := start(t, dir)
	kept := mustCreate(t, d.Client, "/kept", "only")
	changed := mustCreate(t, d.Client, "/changed", "1")
	changed = mustUpdate(t, d.Client, "/changed", "2", changed)
	gone := mustCreate(t, d.Client, "/gone", "1")
	goneAt := mustRemove(t, d.Client, "/gone", gone)
	target := mustUpdate(t, d.Client, "/changed", "3", changed)
	after := mustUpdate(t, d.Client, "/changed", "4", target)
	if _, err := d.Compact(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, d *instance) {
		t.Helper()
		for key, want := range map[string]string{"/kept": "only@" + fmt.Sprint(kept), "/changed": "4@" + fmt.Sprint(after), "/gone": ""} {
			r, err := d.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(r.Kvs) > 0 {
				got = fmt.Sprintf("%s@%d", r.Kvs[0].Value, r.Kvs[0].ModRevision)
			}
			if got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		if r, err := d.Get(t.Context(), "/changed", clientv3.WithRev(target)); err != nil || string(r.Kvs[0].Value) != "3" {
			t.Errorf("at the compacted revision: %v %v", r, err)
		}
		if _, err := d.Get(t.Context(), "/changed", clientv3.WithRev(target-1)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("before the compacted revision: %v", err)
		}
		if _, err := d.Compact(t.Context(), target); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("compacting again: %v", err)
		}
		if _, err := d.Compact(t.Context(), after+1); !errors.Is(err, rpctypes.ErrFutureRev) {
			t.Errorf("compacting the future: %v", err)
		}
		if r, err := remove(t.Context(), d.Client, "/gone", goneAt); err != nil || r.Succeeded {
			t.Errorf("deleting what is long gone: %v %v", r, err)
		}
	}
	check(t, d)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = start(t, dir)
	check(t, d)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if rows := ids(t, d.cfg.Path, "/changed") + ids(t, d.cfg.Path, "/gone"); rows != fmt.Sprintf(" %d %d", target, after) {
		t.Errorf("rows left are%s, want %d and %d", rows, target, after)
	}
}

// ids lists the rows of a key, looking into the file of a stopped datastore.
func ids(t *testing.T, path, key string) string {
	t.Helper()
	c, err := openConn(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var s strings.Builder
	err = c.query(context.Background(), `SELECT id FROM kine WHERE name = ? ORDER BY id`, func(row []driver.Value) error {
		fmt.Fprintf(&s, " %d", integer(row[0]))
		return nil
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

func TestARevisionIsNeverGivenTwice(t *testing.T) {
	dir := t.TempDir()
	d := start(t, dir)
	last := mustRemove(t, d.Client, "/a", mustCreate(t, d.Client, "/a", "1"))
	if _, err := d.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = start(t, dir)
	if next := mustCreate(t, d.Client, "/b", "1"); next != last+1 {
		t.Errorf("after everything was compacted the next revision is %d, want %d", next, last+1)
	}
}

func TestTheCompactorOfTheAPIServerWorks(t *testing.T) {
	d := start(t, t.TempDir())
	w := d.Watch(t.Context(), "compact_rev_key", clientv3.WithCreatedNotify())
	next(t, w)
	// As k8s.io/apiserver/pkg/storage/etcd3/compact.go has it.
	claim := func(version int64, value string) *clientv3.TxnResponse {
		r, err := d.KV.Txn(t.Context()).If(clientv3.Compare(clientv3.Version("compact_rev_key"), "=", version)).
			Then(clientv3.OpPut("compact_rev_key", value)).Else(clientv3.OpGet("compact_rev_key")).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if !claim(0, "10").Succeeded || !claim(1, "20").Succeeded {
		t.Fatal("the compactor could not note its revision")
	}
	lost := claim(1, "30")
	if kv := lost.Responses[0].GetResponseRange().Kvs[0]; lost.Succeeded || kv.Version != 2 || string(kv.Value) != "20" {
		t.Errorf("a second compactor got %v", lost)
	}
	for _, want := range []string{"10", "20"} {
		if e := next(t, w).Events[0]; string(e.Kv.Key) != "compact_rev_key" || string(e.Kv.Value) != want {
			t.Errorf("watching the compacted revision gave %v, want %s", e, want)
		}
	}
}

func TestWritesGoOnDuringACompaction(t *testing.T) {
	d := start(t, t.TempDir())
	const keys, rounds = 200, 40
	revisions := make([]int64, keys)
	var last int64
	for range rounds {
		for i := range keys {
			r, err := update(t.Context(), d.Client, fmt.Sprintf("/k/%d", i), strings.Repeat("x", 200), revisions[i])
			if err != nil || !r.Succeeded {
				t.Fatal(r, err)
			}
			revisions[i] = r.Header.Revision
			last = r.Header.Revision
		}
	}
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := d.Compact(t.Context(), last)
		done <- err
	}()
	var worst time.Duration
	n := 0
	for running := true; running; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		start := time.Now()
		mustCreate(t, d.Client, fmt.Sprintf("/during/%d", n), "v")
		worst = max(worst, time.Since(start))
	}
	t.Logf("%d revisions compacted in %s, %d writes meanwhile, the slowest took %s", last, time.Since(began), n, worst)
	if worst > time.Second {
		t.Errorf("a write waited %s", worst)
	}
}

func TestTheFileShrinksWhenMuchOfItIsFree(t *testing.T) {
	b := newTestBackend(t)
	var path string
	err := b.writer.do(t.Context(), func(db *conn) error {
		return db.query(t.Context(), `PRAGMA database_list`, func(row []driver.Value) error {
			path = text(row[2])
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 1<<20)
	var last int64
	for i := range 30 {
		key := fmt.Sprintf("/big/%d", i)
		if _, err := b.Create(t.Context(), key, value, 0); err != nil {
			t.Fatal(err)
		}
		if last, _, _, err = b.Delete(t.Context(), key, 0); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint(t, path)
	before, err := os.Stat(path)
	if err != nil || before.Size() < 30<<20 {
		t.Fatalf("%v %v", before, err)
	}
	if _, err := b.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	checkpoint(t, path)
	after, err := os.Stat(path)
	if err != nil || after.Size() > vacuumFrom+1<<20 {
		t.Errorf("%d bytes before and %d after: %v", before.Size(), after.Size(), err)
	}
}

// checkpoint moves the log into the file, whose size then says something.
func checkpoint(t *testing.T, path string) {
	t.Helper()
	c, err := openConn(path, checkpointPragmas...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.exec(`PRAGMA wal_checkpoint(PASSIVE)`); err != nil {
		t.Fatal(err)
	}
}

func TestOurOwnCompactionRunsWhenItIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	d := startWith(t, Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock", CompactInterval: 20 * time.Millisecond})
	first := mustCreate(t, d.Client, "/a", "1")
	mustUpdate(t, d.Client, "/a", "2", first)
	for deadline := time.Now().Add(patience); ; {
		_, err := d.Get(t.Context(), "/a", clientv3.WithRev(first))
		if errors.Is(err, rpctypes.ErrCompacted) {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("nothing has been compacted: %v", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestTheWriteAheadLogStaysBounded(t *testing.T) {
	d := start(t, t.TempDir())
	stop := make(chan struct{})
	readers := make(chan error, 2)
	for range cap(readers) {
		go func() { // readers that never pause, which keep SQLite from starting the log again
			for {
				select {
				case <-stop:
					readers <- nil
					return
				default:
				}
				if _, err := d.Get(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithLimit(20)); err != nil {
					readers <- err
					return
				}
			}
		}()
	}
	value := strings.Repeat("x", 512<<10)
	rev := mustCreate(t, d.Client, "/big", value)
	var largest int64
	for range 250 { // 125 MiB
		rev = mustUpdate(t, d.Client, "/big", value, rev)
		info, err := os.Stat(d.cfg.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	close(stop)
	for range cap(readers) {
		if err := <-readers; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("largest log: %d MiB", largest>>20)
	if limit := int64(walLimit+2*walPages) * pageSize; largest > limit {
		t.Errorf("the log grew to %d MiB, want at most %d", largest>>20, limit>>20)
	}
}
