package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func sequence(all ...*mvccpb.KeyValue) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		for _, kv := range all {
			if !yield(kv, nil) {
				return
			}
		}
	}
}

func TestAFilledDatabaseGoesOnFromALaterRevision(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db", "state.db")
	var all []*mvccpb.KeyValue
	for i := range 2500 { // more than a transaction has
		at := int64(10 + 2*i)
		all = append(all, &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/k/%04d", i), Value: []byte("v"), CreateRevision: at - int64(i%2), ModRevision: at, Version: 1 + int64(i%2)})
	}
	if err := Fill(path, 1_000_000, sequence(all...)); err != nil {
		t.Fatal(err)
	}
	d := start(t, dir)
	got, err := d.Get(t.Context(), "/k/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != len(all) || got.Header.Revision != 1_000_000 {
		t.Fatalf("there are %d keys at revision %d", len(got.Kvs), got.Header.Revision)
	}
	for i, kv := range got.Kvs {
		if want := all[i]; kv.ModRevision != want.ModRevision || kv.CreateRevision != want.CreateRevision || string(kv.Value) != "v" {
			t.Fatalf("key %s is %v, was %v", kv.Key, kv, want)
		}
	}

	// Who saw more of the old database than the snapshot has is sent back to
	// look again, and who looks now is told what comes.
	late := <-d.Watch(t.Context(), "/k/", clientv3.WithPrefix(), clientv3.WithRev(7000))
	if !errors.Is(late.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before gets %v, want %v", late.Err(), rpctypes.ErrCompacted)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	news := d.Watch(ctx, "/k/", clientv3.WithPrefix(), clientv3.WithRev(1_000_001))
	txn, err := d.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision("/k/0001"), "=", 12)).
		Then(clientv3.OpPut("/k/0001", "new")).Else(clientv3.OpGet("/k/0001")).Commit()
	if err != nil || !txn.Succeeded || txn.Header.Revision != 1_000_001 {
		t.Fatalf("an update: %v %v", txn, err)
	}
	if event := <-news; len(event.Events) != 1 || event.Events[0].Kv.CreateRevision != 11 {
		t.Errorf("the watch gives %v", event)
	}
	if _, err := d.Compact(ctx, 1_000_001); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(ctx, "/k/", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || got.Count != 2500 {
		t.Errorf("after a compaction there are %v, %v", got, err)
	}
}

func TestADatabaseThatCannotBeFilledIsRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	for name, bad := range map[string]iter.Seq2[*mvccpb.KeyValue, error]{
		"keys that end with an error": func(yield func(*mvccpb.KeyValue, error) bool) { yield(nil, errors.New("damaged")) },
		"a key of the future":         sequence(&mvccpb.KeyValue{Key: []byte("/a"), ModRevision: 100}),
	} {
		if err := Fill(path, 100, bad); err == nil {
			t.Errorf("%s are taken", name)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s leave %v", name, left)
		}
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Fill(path, 100, sequence()); err == nil {
		t.Error("a file that is there is overwritten")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file that was there has %q, %v", data, err)
	}
}
