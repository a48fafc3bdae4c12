//go:build !cgo

package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	kine "github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// withKine runs f on kine's own SQLite driver, the one without cgo as in the
// binary: with cgo, as for the race detector, kine takes another one.
func withKine(t *testing.T, path string, f func(ctx context.Context, b server.Backend)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	_, b, err := kine.New(ctx, &wg, &drivers.Config{
		DataSourceName: path + "?_journal_mode=WAL&_busy_timeout=5000&_txlock=immediate",
		CompactTimeout: 5 * time.Second, CompactMinRetain: 1000, CompactBatchSize: 1000, PollBatchSize: 500,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f(ctx, b)
	cancel()
	wg.Wait()
}

func TestADatabaseCanGoToKineAndBack(t *testing.T) {
	dir := t.TempDir()
	if err := privateDir(filepath.Join(dir, "db")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "db", "state.db")
	var first int64
	withKine(t, path, func(ctx context.Context, b server.Backend) {
		var err error
		if first, err = b.Create(ctx, "/a", []byte("kine"), 0); err != nil {
			t.Fatal(err)
		}
		gone, err := b.Create(ctx, "/gone", []byte("x"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := b.Delete(ctx, "/gone", gone); err != nil || !ok {
			t.Fatal(ok, err)
		}
	})

	d := start(t, dir)
	r, err := d.Get(t.Context(), "/a")
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "kine" || r.Kvs[0].ModRevision != first {
		t.Fatalf("what kine wrote: %v %v", r, err)
	}
	second := mustUpdate(t, d.Client, "/a", "skiff", first)
	if second != r.Header.Revision+1 {
		t.Errorf("revision %d follows %d", second, r.Header.Revision)
	}
	w := d.Watch(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(first))
	if e := next(t, w).Events; len(e) < 4 || describe(e[0])[:6] != "PUT /a" {
		t.Errorf("the history that kine wrote: %v", e)
	}
	again := mustCreate(t, d.Client, "/gone", "back")
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}

	withKine(t, path, func(ctx context.Context, b server.Backend) {
		rev, kv, err := b.Get(ctx, "/a", 0, false)
		if err != nil || kv == nil || string(kv.Value) != "skiff" || kv.ModRevision != second || kv.CreateRevision != first {
			t.Fatalf("what Skiff wrote: %v %v", kv, err)
		}
		if rev != again {
			t.Errorf("kine's revision is %d, want %d", rev, again)
		}
		third, _, ok, err := b.Update(ctx, "/a", []byte("kine again"), second, 0)
		if err != nil || !ok || third <= second {
			t.Errorf("update by kine: %d %v %v", third, ok, err)
		}
		if _, _, ok, err := b.Delete(ctx, "/gone", again); err != nil || !ok {
			t.Errorf("delete by kine: %v %v", ok, err)
		}
	})
}
