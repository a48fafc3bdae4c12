package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// fillGroup is how many keys Fill writes in one transaction.
const fillGroup = 5000

// Fill makes the data of the only member of a new cluster, with these keys, each
// at its revision. It goes on from a later revision, up to which everything
// counts as compacted, so that clients that watched where the keys come from look
// again. A key's lease is the seconds that it lives. The member finds out by itself at which address it is. What is in dir
// when it returns is whole and on the disk; on an error nothing is.
func Fill(dir, node string, from int64, keys iter.Seq2[*mvccpb.KeyValue, error]) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	name, err := memberName(dir, node)
	if err != nil {
		return err
	}
	backend, whole := filepath.Join(dir, "keys"), filepath.Join(dir, "filled")
	if err := writeBackend(backend, from, keys); err != nil {
		return err
	}
	// Upstream makes the log of a cluster that begins with these keys: who
	// joins is sent them, since the log has nothing from before.
	peer := PeerURL(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: backend, SkipHashCheck: true, Name: name, OutputDataDir: whole,
		PeerURLs: []string{peer}, InitialCluster: name + "=" + peer, InitialClusterToken: clusterToken,
	})
	if err != nil {
		return fmt.Errorf("making the data of the embedded etcd: %w", err)
	}
	if err := os.Rename(memberDir(whole), memberDir(dir)); err != nil {
		return err
	}
	return errors.Join(os.Remove(backend), os.RemoveAll(whole), syncAll(dir))
}

// writeBackend writes the file in which etcd keeps its keys.
func writeBackend(path string, from int64, keys iter.Seq2[*mvccpb.KeyValue, error]) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true, NoFreelistSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing once all is committed
	for _, bucket := range schema.AllBuckets {
		if _, err := tx.CreateBucketIfNotExists(bucket.Name()); err != nil {
			return err
		}
	}
	n := 0
	for kv, failed := range keys {
		if failed != nil {
			return failed
		}
		if kv.ModRevision >= from {
			return fmt.Errorf("the key %s has the revision %d, which is not before %d", kv.Key, kv.ModRevision, from)
		}
		err := putKey(tx.Bucket(schema.Key.Name()), kv)
		if kv.Lease != 0 {
			err = errors.Join(err, putLease(tx.Bucket(schema.Lease.Name()), kv.Lease))
		}
		if err != nil {
			return fmt.Errorf("writing the key %s: %w", kv.Key, err)
		}
		if n++; n%fillGroup == 0 {
			if err := tx.Commit(); err != nil {
				return err
			}
			if tx, err = db.Begin(true); err != nil {
				return err
			}
		}
	}
	meta, compacted := tx.Bucket(schema.Meta.Name()), mvcc.RevToBytes(mvcc.Revision{Main: from}, mvcc.NewRevBytes())
	for _, name := range [][]byte{schema.ScheduledCompactKeyName, schema.FinishedCompactKeyName} {
		if err := meta.Put(name, compacted); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// putLease makes a lease. In kine, which has none, keys have the seconds that
// they live; under that number they get a lease of that time, counted anew.
func putLease(bucket *bbolt.Bucket, seconds int64) error {
	value, err := (&leasepb.Lease{ID: seconds, TTL: seconds}).Marshal()
	if err != nil {
		return err
	}
	return bucket.Put(binary.BigEndian.AppendUint64(nil, uint64(seconds)), value)
}

// putKey writes a key at its revision; of those that were written together each
// has a place of its own.
func putKey(bucket *bbolt.Bucket, kv *mvccpb.KeyValue) error {
	stored := *kv
	stored.Version = max(kv.Version, 1) // kine has no versions
	value, err := stored.Marshal()
	if err != nil {
		return err
	}
	for sub := int64(0); ; sub++ {
		at := mvcc.RevToBytes(mvcc.Revision{Main: kv.ModRevision, Sub: sub}, mvcc.NewRevBytes())
		if bucket.Get(at) == nil {
			return bucket.Put(at, value)
		}
	}
}

// syncAll flushes a directory with all that is in it.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return atomicfile.SyncDir(path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
