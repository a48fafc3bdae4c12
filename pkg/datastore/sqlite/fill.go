package sqlite

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/k3s-io/kine/pkg/server"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// fillGroup is how many keys Fill writes in one transaction.
const fillGroup = 1000

// Fill makes a new database with these keys, each at its revision. It goes on
// from a later revision, up to which everything counts as compacted: clients
// that watched the database which the keys come from, and may have seen more of
// it, are told to look again instead of being left waiting. The file is whole
// and on the disk when Fill returns; on an error it is removed.
func Fill(path string, from int64, keys iter.Seq2[*mvccpb.KeyValue, error]) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("there is a file %s already", path)
	}
	if _, err := prepareFiles(path); err != nil {
		return explain(path, err)
	}
	defer func() {
		if err != nil {
			for _, name := range []string{path, path + "-wal", path + "-shm"} {
				_ = os.Remove(name) // it may not have come that far
			}
		}
	}()
	// No log: a file that is not complete is of no use.
	db, err := openConn(path, fmt.Sprintf("page_size = %d", pageSize), fmt.Sprintf("auto_vacuum = %d", incrementalVacuum),
		"journal_mode = OFF", "synchronous = OFF", "cache_size = -4096", "temp_store = MEMORY")
	if err != nil {
		return explain(path, err)
	}
	if err := errors.Join(fill(db, from, keys), db.close()); err != nil {
		return explain(path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func fill(db *conn, from int64, keys iter.Seq2[*mvccpb.KeyValue, error]) error {
	if err := migrate(db); err != nil {
		return err
	}
	if err := db.exec(beginSQL); err != nil {
		return err
	}
	n := 0
	for kv, err := range keys {
		if err != nil {
			return err
		}
		if kv.ModRevision >= from || kv.ModRevision <= 1 { // 1 is the compacted revision's row
			return fmt.Errorf("the key %s has the revision %d, which is not between 1 and %d", kv.Key, kv.ModRevision, from)
		}
		if err := insertKey(db, kv); err != nil {
			return fmt.Errorf("writing the key %s: %w", kv.Key, err)
		}
		if n++; n%fillGroup == 0 {
			if err := errors.Join(db.exec(commitSQL), db.exec(beginSQL)); err != nil {
				return err
			}
		}
	}
	// The newest row is of a key that each start would make.
	if err := db.exec(insertSQL, from, server.HealthKey, int64(1), int64(0), int64(0), int64(0), int64(0), []byte(server.HealthVal)); err != nil {
		return err
	}
	if err := db.exec(setCompactedSQL, from); err != nil {
		return err
	}
	return db.exec(commitSQL)
}

// insertKey writes a key the way that the writer does.
func insertKey(db *conn, kv *mvccpb.KeyValue) error {
	created, createRevision := int64(1), int64(0)
	if kv.CreateRevision != kv.ModRevision {
		created, createRevision = 0, kv.CreateRevision
	}
	return db.exec(insertSQL, kv.ModRevision, kineapi.StoredKey(kv.Key), created, int64(0), createRevision, int64(0), kv.Lease, kv.Value)
}
