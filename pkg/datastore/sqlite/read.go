package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/k3s-io/kine/pkg/server"

	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// historyBatch is how many old events are read at once.
const historyBatch = 500

// readers is the number of connections that read. Reads are short and the
// machines are small; a second one keeps a long list from holding up the rest.
const readers = 3

// read runs f on a reading connection. Every connection sees all commits that
// have been answered.
func (b *backend) read(ctx context.Context, what string, f func(db *conn) error) error {
	var db *conn
	select {
	case db = <-b.readers:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return errClosed
	}
	defer func() { b.readers <- db }()
	start := time.Now()
	if err := f(db); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isFatal(err) {
			b.fail(err)
		}
		return clientError(fmt.Errorf("read %s: %w", what, err))
	}
	if took := time.Since(start); b.slow > 0 && took >= b.slow {
		b.log.WithField("took", took.Round(time.Millisecond)).Warnf("Slow read of %s", what)
	}
	return nil
}

// snapshot is a read of the table as it was at one revision: rows are never
// changed, so asking for none newer is a snapshot without a transaction. With
// revision 0 it is the newest one, read again in the rare case that a
// compaction overtook it meanwhile.
func (b *backend) snapshot(ctx context.Context, what string, revision int64, f func(db *conn, at int64) error) (int64, error) {
	for {
		current := b.current.Load()
		at := revision
		if revision <= 0 {
			at = current
		} else if revision > current {
			return current, server.ErrFutureRev
		} else if revision < b.compacted.Load() {
			return current, server.ErrCompacted
		}
		if err := b.read(ctx, what, func(db *conn) error { return f(db, at) }); err != nil {
			return 0, err
		}
		if at >= b.compacted.Load() {
			return current, nil
		}
		if revision > 0 {
			return current, server.ErrCompacted
		}
	}
}

// CurrentRevision implements server.Backend.
func (b *backend) CurrentRevision(context.Context) (int64, error) { return b.current.Load(), nil }

// Get implements server.Backend.
func (b *backend) Get(ctx context.Context, key string, revision int64, keysOnly bool) (int64, *server.KeyValue, error) {
	query := getSQL
	if keysOnly {
		query = getKeySQL
	}
	var kv *server.KeyValue
	current, err := b.snapshot(ctx, key, revision, func(db *conn, at int64) error {
		kv = nil
		return db.query(ctx, query, func(row []driver.Value) error {
			if found, deleted := scanLatest(key, row); !deleted {
				kv = found
			}
			return nil
		}, key, at)
	})
	return current, kv, err
}

// List implements server.Backend.
func (b *backend) List(ctx context.Context, key, end string, limit, revision int64, keysOnly bool) (int64, []*server.KeyValue, error) {
	query := listSQL
	if keysOnly {
		query = listKeysSQL
	}
	if limit <= 0 {
		limit = -1
	}
	var kvs []*server.KeyValue
	current, err := b.snapshot(ctx, key, revision, func(db *conn, at int64) error {
		kvs = kvs[:0]
		return db.query(ctx, query, func(row []driver.Value) error {
			kv := &server.KeyValue{
				Key:            text(row[1]),
				ModRevision:    integer(row[0]),
				CreateRevision: integer(row[3]),
				Lease:          integer(row[4]),
			}
			if integer(row[2]) != 0 {
				kv.CreateRevision = kv.ModRevision
			}
			if !keysOnly {
				kv.Value = blob(row[5])
			}
			kvs = append(kvs, kv)
			return nil
		}, key, upperBound(end), at, limit)
	})
	// The query plan gives key order; a future SQLite might choose another one.
	byKey := func(a, b *server.KeyValue) int { return strings.Compare(a.Key, b.Key) }
	if limit < 0 && !slices.IsSortedFunc(kvs, byKey) {
		slices.SortFunc(kvs, byKey)
	}
	return current, kvs, err
}

// Count implements server.Backend.
func (b *backend) Count(ctx context.Context, key, end string, revision int64) (int64, int64, error) {
	var count int64
	current, err := b.snapshot(ctx, key, revision, func(db *conn, at int64) error {
		return db.query(ctx, countSQL, func(row []driver.Value) error {
			count = integer(row[0])
			return nil
		}, key, upperBound(end), at)
	})
	return current, count, err
}

// DbSize implements server.Backend: bytes of the file that hold something. Who
// asks for it counts statements, so these are not counted.
func (b *backend) DbSize(ctx context.Context) (int64, error) {
	var size int64
	err := b.read(ctx, "the database's size", func(db *conn) error {
		defer func(ran *atomic.Uint64) { db.ran = ran }(db.ran)
		db.ran = nil
		var n [3]int64
		for i, query := range []string{pageSizeSQL, pageCountSQL, freePagesSQL} {
			var err error
			if n[i], err = db.queryInt(query); err != nil {
				return err
			}
		}
		size = n[0] * (n[1] - n[2])
		return nil
	})
	return size, err
}

// History implements kinewatch.Source: it reads at most historyBatch events.
func (b *backend) History(ctx context.Context, r kinewatch.Range, from, to int64) (events []*server.Event, position int64, err error) {
	high := upperBound(r.End)
	if r.End == "" {
		high = r.Key + "\x00"
	}
	rows := 0
	err = b.read(ctx, "events of "+r.Key, func(db *conn) error {
		return db.query(ctx, historySQL, func(row []driver.Value) error {
			rows++
			position = integer(row[0])
			if e := scanEvent(row); e != nil {
				events = append(events, e)
			}
			return nil
		}, from, to, r.Key, high, int64(historyBatch))
	})
	if err != nil {
		return nil, 0, err
	}
	if from < b.compacted.Load() {
		return nil, 0, server.ErrCompacted
	}
	if rows < historyBatch {
		position = to
	}
	return events, position, nil
}

// scanEvent turns a row of historySQL into an event, nil for a row that is
// kine's own book-keeping.
func scanEvent(row []driver.Value) *server.Event {
	key := text(row[1])
	if key == compactKey || strings.HasPrefix(key, gapPrefix) {
		return nil
	}
	e := &server.Event{
		Create: integer(row[2]) != 0,
		Delete: integer(row[3]) != 0,
		KV: &server.KeyValue{
			Key:            key,
			ModRevision:    integer(row[0]),
			CreateRevision: integer(row[4]),
			Lease:          integer(row[5]),
			Value:          blob(row[6]),
		},
	}
	if e.Create {
		e.KV.CreateRevision = e.KV.ModRevision
		return e
	}
	e.PrevKV = &server.KeyValue{
		Key:            key,
		ModRevision:    integer(row[7]),
		CreateRevision: integer(row[9]),
		Lease:          integer(row[10]),
		Value:          blob(row[11]),
	}
	if integer(row[8]) != 0 {
		e.PrevKV.CreateRevision = e.PrevKV.ModRevision
	}
	return e
}

// upperBound is the end of a range as SQLite compares it; etcd writes "\0" for
// no end.
func upperBound(end string) any {
	if end == "\x00" {
		return noEnd
	}
	return end
}
