package bootstrap

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Key is where the sealed data is in the datastore, beside the API's objects
// and not one of them.
const Key = "/skiff/bootstrap"

// ErrConflict is the error of Save when the datastore has something else than
// what was loaded.
var ErrConflict = errors.New("another server has changed the cluster's keys in the datastore meanwhile")

// KV is what is asked of a datastore: a part of clientv3.KV.
type KV interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Txn(ctx context.Context) clientv3.Txn
}

// Stored is what a datastore has.
type Stored struct {
	Sealed   []byte
	Revision int64 // 0: nothing is there
}

// Load reads what is there.
func Load(ctx context.Context, kv KV) (Stored, error) {
	r, err := kv.Get(ctx, Key)
	if err != nil {
		return Stored{}, fmt.Errorf("reading the cluster's keys from the datastore: %w", err)
	}
	if len(r.Kvs) == 0 {
		return Stored{}, nil
	}
	return Stored{Sealed: r.Kvs[0].Value, Revision: r.Kvs[0].ModRevision}, nil
}

// Save replaces what was there at a revision, and nothing else; the result is
// what is there now. Revision 0 stands for nothing.
func Save(ctx context.Context, kv KV, sealed []byte, revision int64) (Stored, error) {
	now, err := put(ctx, kv, Key, sealed, revision)
	if err != nil {
		return Stored{}, err
	}
	return Stored{Sealed: sealed, Revision: now}, nil
}
