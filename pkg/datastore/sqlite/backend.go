package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// backend is kine's storage interface on top of one writer and a few readers.
type backend struct {
	log     *logrus.Entry
	slow    time.Duration
	writer  *writer
	readers chan *conn
	hub     *kinewatch.Hub
	wal     *checkpointer
	expiry  *expirer

	current   atomic.Int64 // newest revision that anyone was told of
	compacted atomic.Int64 // reads and watches before it are refused
	compact   sync.Mutex   // one compaction at a time

	ctx    context.Context // ends when the backend stops serving
	cancel context.CancelFunc
	loops  sync.WaitGroup
	fatal  chan error // why the backend can not go on, at most one
}

var _ server.Backend = (*backend)(nil)

// newBackend opens the database and starts its writer; what they do is added
// to counts.
func newBackend(path string, slow time.Duration, counts *counters, log *logrus.Entry) (*backend, error) {
	db, err := open(path, log)
	if err != nil {
		return nil, err
	}
	counts.of(db)
	b := &backend{log: log, slow: slow, readers: make(chan *conn, readers), fatal: make(chan error, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.hub = kinewatch.NewHub(b.ctx, b, db.current, log)
	b.current.Store(db.current)
	b.compacted.Store(db.compacted)
	for _, r := range db.readers {
		b.readers <- r
	}
	b.writer = &writer{
		db: db.writer, log: log, slow: slow, current: db.current,
		writes: make(chan *write, maxGroup), jobs: make(chan func()),
		stop: make(chan struct{}), stopped: make(chan struct{}),
		failed: b.fail, publish: b.publish, counts: counts, space: newSpace(path, log),
	}
	b.wal = newCheckpointer(b, db.checkpoints)
	b.expiry = newExpirer(b)
	go b.writer.run()
	b.loops.Go(b.wal.run)
	return b, nil
}

// publish runs on the writer after each commit.
func (b *backend) publish(revision int64, events []*server.Event) {
	b.hub.Publish(revision, events)
	b.current.Store(revision)
	b.wal.wrote(events)
	b.expiry.wrote(events)
}

func (b *backend) fail(err error) {
	select {
	case b.fatal <- err:
	default:
	}
}

// Start implements server.Backend: it makes the key that the API server's
// health check reads, and lets leases expire until ctx ends.
func (b *backend) Start(ctx context.Context) error {
	if _, err := b.Create(ctx, server.HealthKey, []byte(server.HealthVal), 0); err != nil && !errors.Is(err, server.ErrKeyExists) {
		return fmt.Errorf("create the health key: %w", err)
	}
	b.loops.Go(b.expiry.run)
	return nil
}

// close stops everything, leaving one file without a write-ahead log.
func (b *backend) close() error {
	b.cancel()
	close(b.writer.stop)
	<-b.writer.stopped
	b.loops.Wait()
	var errs []error
	for range readers {
		errs = append(errs, (<-b.readers).close())
	}
	errs = append(errs, b.wal.db.close())
	// The last connection to close moves the log into the file and removes it.
	errs = append(errs, b.writer.db.close())
	return errors.Join(errs...)
}

// Create implements server.Backend.
func (b *backend) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	o := b.writer.submit(ctx, &write{op: opCreate, key: key, value: value, lease: lease})
	return o.revision, o.err
}

// Update implements server.Backend. The key and value returned are the stored
// ones, whether or not the compare held.
func (b *backend) Update(ctx context.Context, key string, value []byte, revision, lease int64) (int64, *server.KeyValue, bool, error) {
	o := b.writer.submit(ctx, &write{op: opUpdate, key: key, value: value, revision: revision, lease: lease})
	return o.revision, o.kv, o.ok, o.err
}

// Delete implements server.Backend. The key and value returned are the deleted
// ones, or the stored ones when the compare did not hold.
func (b *backend) Delete(ctx context.Context, key string, revision int64) (int64, *server.KeyValue, bool, error) {
	o := b.writer.submit(ctx, &write{op: opDelete, key: key, revision: revision})
	if o.ok {
		o.kv = o.previous
	}
	return o.revision, o.kv, o.ok, o.err
}

// WaitForSyncTo implements server.Backend. A revision that anyone could know
// has been handed to the watchers before.
func (b *backend) WaitForSyncTo(int64) {}
