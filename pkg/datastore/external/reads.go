package external

import (
	"context"
	"errors"

	"github.com/k3s-io/kine/pkg/server"
)

// reads mends what kine says of reads that find nothing: it then takes the
// newest revision from its memory, where writes at once may leave one that is
// not the newest, and refuses to read at a revision that it has itself given out.
type reads struct {
	server.Backend
	newest func(context.Context) (int64, error)
}

// Get implements server.Backend.
func (b reads) Get(ctx context.Context, key string, revision int64, keysOnly bool) (int64, *server.KeyValue, error) {
	at, kv, err := b.Backend.Get(ctx, key, revision, keysOnly)
	if errors.Is(err, server.ErrFutureRev) {
		at, err = b.nothing(ctx, revision)
	}
	return at, kv, err
}

// List implements server.Backend.
func (b reads) List(ctx context.Context, key, end string, limit, revision int64, keysOnly bool) (int64, []*server.KeyValue, error) {
	at, kvs, err := b.Backend.List(ctx, key, end, limit, revision, keysOnly)
	if errors.Is(err, server.ErrFutureRev) {
		at, err = b.nothing(ctx, revision)
	}
	return at, kvs, err
}

// nothing asks the database whether the revision is one of the future.
func (b reads) nothing(ctx context.Context, revision int64) (int64, error) {
	newest, err := b.newest(ctx)
	if err == nil && revision > newest {
		err = server.ErrFutureRev
	}
	return newest, err
}
