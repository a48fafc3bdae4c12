package sqlite

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestKeysLiveThroughARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	created := mustCreate(t, first.Client, "/registry/a", "1")
	updated := mustUpdate(t, first.Client, "/registry/a", "2", created)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, dir)
	r, err := second.Get(t.Context(), "/registry/a")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "2" || r.Kvs[0].ModRevision != updated || r.Kvs[0].CreateRevision != created {
		t.Fatalf("after a restart: %v", r.Kvs)
	}
	if r.Header.Revision != updated {
		t.Fatalf("revision %d after a restart, want %d", r.Header.Revision, updated)
	}
	if next := mustCreate(t, second.Client, "/registry/b", "1", clientv3.WithLease(0)); next != updated+1 {
		t.Fatalf("next revision is %d, want %d", next, updated+1)
	}
}
