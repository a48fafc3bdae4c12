package sqlite

import (
	"context"
	"path/filepath"
	"testing"
)

// SQLite's numbers of the synchronous settings.
const (
	syncNormal = 1
	syncFull   = 2
)

func TestOnlyANewDatabaseMayWaitWithFlushing(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Path: filepath.Join(dir, "db", "state.db"), Socket: filepath.Join(dir, "run", "kine.sock"), Settles: true}

	first := startWith(t, cfg)
	if got := synchronous(t, first.store); got != syncNormal {
		t.Errorf("a new database has synchronous=%d: want %d until Settle", got, syncNormal)
	}
	mustCreate(t, first.Client, "/a", "1")
	b := first.store.relaxed.Load()
	if err := first.store.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := synchronousOf(t, b); got != syncFull {
		t.Errorf("after Settle synchronous=%d: want %d", got, syncFull)
	}
	if err := first.store.Settle(t.Context()); err != nil {
		t.Errorf("a second Settle: %v", err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	second := startWith(t, cfg)
	if second.store.relaxed.Load() != nil {
		t.Error("a database that was there before is not flushed with every commit")
	}
}

func synchronous(t *testing.T, d *Datastore) int64 {
	t.Helper()
	b := d.relaxed.Load()
	if b == nil {
		t.Fatal("the new database is not relaxed")
	}
	return synchronousOf(t, b)
}

func synchronousOf(t *testing.T, b *backend) (mode int64) {
	t.Helper()
	if err := b.writer.do(context.Background(), func(db *conn) (err error) {
		mode, err = db.queryInt("PRAGMA synchronous")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mode
}
