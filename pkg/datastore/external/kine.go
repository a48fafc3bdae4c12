package external

import (
	"context"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/metrics"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/k3s-io/kine/pkg/tls"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

const (
	// notifyInterval is how often watchers who asked for it are told how far
	// they are. Compactions keep at least 5 minutes.
	notifyInterval = time.Minute
	// A compaction deletes this many revisions in one transaction, which may
	// take this long on a slow database: kine's own 5 s are too short for one
	// that has got behind, which then only grows.
	compactBatch   = 1000
	compactTimeout = time.Minute
	// compactRetain keeps the newest row, whatever a compaction says: kine
	// counts on from the largest revision that it finds. Beyond that the API
	// server decides, by time; kine's own 1000 would overrule it.
	compactRetain = 1
	pollBatch     = 500
	// grace is how long requests may go on after the end of ctx.
	grace = 500 * time.Millisecond
)

// database is one that kine can use.
type database interface {
	where() string
	// connect tries to connect once, and makes the database if it may.
	connect(ctx context.Context) error
	// explain says how to mend an error, where it can be mended.
	explain(err error) error
}

// kine serves etcd's API in front of a database.
type kine struct {
	database
	cfg  Config
	open drivers.Constructor
	dsn  string
	log  *logrus.Entry
}

func newKine(cfg Config, db database, open drivers.Constructor, dsn string, log *logrus.Entry) *kine {
	return &kine{database: db, cfg: cfg, open: open, dsn: dsn, log: log}
}

func (k *kine) endpoints() []string           { return []string{"unix://" + k.cfg.Socket} }
func (k *kine) tlsConfig() *cryptotls.Config  { return nil }
func (k *kine) try(ctx context.Context) error { return k.connect(ctx) }

func (k *kine) serve(ctx context.Context, ready func()) error {
	// Outlives ctx: requests that are being worked on need the connections.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	b, err := k.start(ctx, inner, &running)
	if err != nil {
		return k.explain(err)
	}
	news, err := newEvents(ctx, b, k.log, func(err error) error { return hide(k.cfg, err) })
	if err != nil {
		return k.explain(err)
	}
	running.Go(func() { news.run(ctx) })
	socket, err := kineapi.Listen(ctx, k.cfg.Socket)
	if err != nil {
		return err
	}
	defer os.Remove(k.cfg.Socket)
	s := kineapi.NewServer()
	watches := kinewatch.NewServer(news.hub)
	running.Go(func() { watches.Notify(notifyInterval) })
	kineapi.NewBridge(reads{b, news.newest}, news.current, kineapi.ListsAndNothing).Register(s, watches)
	ready()
	return answer(ctx, s, socket)
}

// start opens the database by kine, whose own first steps know no ctx.
func (k *kine) start(ctx, inner context.Context, running *sync.WaitGroup) (server.Backend, error) {
	metrics.SlowSQLThreshold = k.cfg.SlowQuery
	type result struct {
		b   server.Backend
		err error
	}
	done := make(chan result, 1)
	go func() {
		_, b, err := k.open(inner, running, &drivers.Config{
			DataSourceName:       k.dsn,
			BackendTLSConfig:     tls.Config{CAFile: k.cfg.CAFile, CertFile: k.cfg.CertFile, KeyFile: k.cfg.KeyFile},
			ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxOpen: k.cfg.MaxOpen, MaxIdle: k.cfg.MaxOpen},
			CompactInterval:      k.cfg.CompactInterval,
			CompactTimeout:       compactTimeout,
			CompactMinRetain:     compactRetain,
			CompactBatchSize:     compactBatch,
			PollBatchSize:        pollBatch,
		})
		if err == nil {
			err = b.Start(inner)
		}
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.b, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer serves until ctx ends.
func answer(ctx context.Context, s *grpc.Server, l net.Listener) error {
	result := make(chan error, 1)
	go func() { result <- s.Serve(l) }()
	select {
	case <-ctx.Done():
	case err := <-result:
		return errors.Join(fmt.Errorf("serve the datastore's API: %w", err))
	}
	timer := time.AfterFunc(grace, s.Stop)
	defer timer.Stop()
	s.GracefulStop()
	<-result
	return nil
}
