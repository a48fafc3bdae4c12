package sqlite

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// DefaultSlowQuery is what a commit or a read may take before it is logged:
// kine's own default.
const DefaultSlowQuery = time.Second

// Config is what the datastore has to be told.
type Config struct {
	// Path is the database file. Its directory is made when it is missing.
	Path string
	// Socket is where the etcd API is served.
	Socket string
	// Settles says that Settle will be called, so that a new database need not
	// flush every commit before.
	Settles bool
	// SlowQuery is how long a commit or a read may take before it is logged
	// as slow; 0 logs none.
	SlowQuery time.Duration
	// CompactInterval is the time between compactions of our own, for those
	// who have switched the API server's off; 0 leaves it to the API server.
	CompactInterval time.Duration

	notify time.Duration // for tests; 0 is notifyInterval
}

// Datastore is the embedded datastore as a component. It stops last, after
// whoever writes to it.
type Datastore struct {
	cfg Config
	log *logrus.Entry
	// relaxed is the backend of a new database until Settle.
	relaxed atomic.Pointer[backend]
	counts  counters
	// serving is there once the API is served.
	serving atomic.Pointer[services]
}

var (
	_ component.Component   = (*Datastore)(nil)
	_ component.StopBounder = (*Datastore)(nil)
)

// New makes the datastore; nothing is opened before Run.
func New(cfg Config, log *logrus.Entry) *Datastore {
	return &Datastore{cfg: cfg, log: log}
}

// Name implements component.Component.
func (d *Datastore) Name() string { return "sqlite" }

// Endpoint is where the etcd API is served, as clients want it. Code in this
// process is better off with Client.
func (d *Datastore) Endpoint() string { return "unix://" + d.cfg.Socket }

// StopTimeout implements component.StopBounder: the end of the streams, then
// the move of the write-ahead log into the file on a slow disk.
func (d *Datastore) StopTimeout() time.Duration { return grace + 2*time.Second }

// Run implements component.Component. It is ready when the API is served, and
// fails when the file can not be used any more: going on with a damaged file or
// a failing disk would only make things worse.
func (d *Datastore) Run(ctx context.Context, ready func()) (err error) {
	b, err := newBackend(d.cfg.Path, d.cfg.SlowQuery, &d.counts, d.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, explain(d.cfg.Path, b.close())) }()
	if d.cfg.Settles && b.current.Load() <= 1 { // 1 is the row that every new file begins with
		if err := b.relax(ctx); err != nil {
			return explain(d.cfg.Path, err)
		}
		d.relaxed.Store(b)
	}
	if err := b.Start(ctx); err != nil {
		return explain(d.cfg.Path, err)
	}
	if d.cfg.CompactInterval > 0 {
		b.loops.Go(func() { b.compactEvery(d.cfg.CompactInterval) })
	}
	socket, err := kineapi.Listen(ctx, d.cfg.Socket)
	if err != nil {
		return err
	}
	defer os.Remove(d.cfg.Socket)
	all := newServices(b, d.cfg.notify)
	d.serving.Store(all)
	ready()
	return explain(d.cfg.Path, serve(ctx, newServer(all), b, socket))
}
