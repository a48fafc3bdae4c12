package kineapi

import (
	"context"
	"errors"

	"github.com/k3s-io/kine/pkg/server"
)

// quiet keeps kine's server from logging failed requests. It logs them
// whole, values of Secrets included, and as errors even where the client only
// asked for something that has been compacted. What it does not log is a
// cancelled request, so that is what errors look like on their way through it.
type quiet struct{ server.Backend }

// quietError passes for a cancelled context; loud makes it itself again.
type quietError struct{ error }

func (quietError) Is(target error) bool { return target == context.Canceled }

// quietly leaves alone the one error that kine compares with.
func quietly(err error) error {
	if err == nil || err == server.ErrKeyExists {
		return err
	}
	return quietError{err}
}

func loud(err error) error {
	var q quietError
	if errors.As(err, &q) {
		return q.error
	}
	return err
}

func (b quiet) Get(ctx context.Context, key string, revision int64, keysOnly bool) (int64, *server.KeyValue, error) {
	rev, kv, err := b.Backend.Get(ctx, key, revision, keysOnly)
	return rev, kv, quietly(err)
}

func (b quiet) List(ctx context.Context, key, end string, limit, revision int64, keysOnly bool) (int64, []*server.KeyValue, error) {
	rev, kvs, err := b.Backend.List(ctx, key, end, limit, revision, keysOnly)
	return rev, kvs, quietly(err)
}

func (b quiet) Count(ctx context.Context, key, end string, revision int64) (int64, int64, error) {
	rev, n, err := b.Backend.Count(ctx, key, end, revision)
	return rev, n, quietly(err)
}

func (b quiet) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	rev, err := b.Backend.Create(ctx, key, value, lease)
	return rev, quietly(err)
}

func (b quiet) Update(ctx context.Context, key string, value []byte, revision, lease int64) (int64, *server.KeyValue, bool, error) {
	rev, kv, ok, err := b.Backend.Update(ctx, key, value, revision, lease)
	return rev, kv, ok, quietly(err)
}

func (b quiet) Delete(ctx context.Context, key string, revision int64) (int64, *server.KeyValue, bool, error) {
	rev, kv, ok, err := b.Backend.Delete(ctx, key, revision)
	return rev, kv, ok, quietly(err)
}

func (b quiet) Compact(ctx context.Context, revision int64) (int64, error) {
	rev, err := b.Backend.Compact(ctx, revision)
	return rev, quietly(err)
}
