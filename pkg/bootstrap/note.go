package bootstrap

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// NoteKey is where a new server token is for the servers that have the old one:
// sealed with a secret that all of them share and that is no token.
const NoteKey = "/skiff/token"

// SealText seals a text for whoever has a secret.
func SealText(secret, text string) ([]byte, error) { return seal(secret, []byte(text)) }

// OpenText is the reverse of SealText.
func OpenText(secret string, sealed []byte) (string, error) {
	text, err := unseal(secret, sealed)
	return string(text), err
}

// Put keeps a value under a key of Skiff's own, whatever is there.
func Put(ctx context.Context, kv KV, key string, value []byte) error {
	for {
		r, err := kv.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("reading %s from the datastore: %w", key, err)
		}
		var revision int64
		if len(r.Kvs) > 0 {
			revision = r.Kvs[0].ModRevision
		}
		_, err = put(ctx, kv, key, value, revision)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// put replaces what was there at a revision, and gives that of what is there now.
func put(ctx context.Context, kv KV, key string, value []byte, revision int64) (int64, error) {
	txn := kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(value)))
	if revision != 0 { // kine knows these two transactions and no third
		txn = txn.Else(clientv3.OpGet(key))
	}
	r, err := txn.Commit()
	if err != nil {
		return 0, fmt.Errorf("keeping %s in the datastore: %w", key, err)
	}
	if !r.Succeeded {
		return 0, ErrConflict
	}
	return r.Header.Revision, nil
}
