package kinewatch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// progressWanted is the key of a context under which a watch is told every now
// and then how far it is.
type progressWanted struct{}

// WithProgressNotify is clientv3.WithProgressNotify for Calls, which can not see
// that option.
func WithProgressNotify(ctx context.Context) context.Context {
	return context.WithValue(ctx, progressWanted{}, true)
}

// Calls are the watches of one client, without a stream: each is one
// goroutine that takes from the hub and hands to its caller. Events come with
// the value before, and cover what Watch's key, range and revision say; other
// options are not seen.
type Calls struct {
	s      *Server
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	watches map[*watchCall]struct{}
}

var _ clientv3.Watcher = (*Calls)(nil)

// watchCall is one watch.
type watchCall struct {
	*watcher
	out      chan clientv3.WatchResponse
	periodic bool         // wants to be told how far it is
	progress atomic.Bool  // is to be told how far it is
	notified atomic.Int64 // revision of the last message
}

// NewCalls makes the watches of a client that ends with ctx.
func NewCalls(ctx context.Context, s *Server) *Calls {
	c := &Calls{s: s, watches: map[*watchCall]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// Watch implements clientv3.Watcher.
func (c *Calls) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	from := op.Rev()
	w := &watchCall{out: make(chan clientv3.WatchResponse)}
	w.periodic, _ = ctx.Value(progressWanted{}).(bool)
	w.watcher, _ = c.s.hub.subscribe(Range{kineapi.StoredKey(key), string(op.RangeBytes())}, from)
	c.add(w)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	go func() {
		defer cancel()
		defer stop()
		err := c.run(ctx, w, from)
		c.remove(w)
		switch {
		case ctx.Err() != nil:
		case c.s.hub.ctx.Err() != nil:
			// Whoever watches is to be stopped too, and would only start again.
			<-ctx.Done()
		case errors.Is(err, server.ErrCompacted):
			header := etcdserverpb.ResponseHeader{Revision: c.s.hub.Revision()}
			_ = w.send(ctx, c.s.hub.ctx, clientv3.WatchResponse{Header: header, Canceled: true, CompactRevision: c.s.hub.source.Compacted()})
		default:
			c.s.hub.log.WithError(err).Warnf("The watch of %s ends, its owner will start another", key)
		}
		close(w.out)
	}()
	return w.out
}

// run delivers to a watch until ctx, the client or the backend ends, or it can
// not go on, and returns why.
func (c *Calls) run(ctx context.Context, w *watchCall, from int64) error {
	h := c.s.hub
	return h.deliver(ctx, w.watcher, from, func(events []*server.Event) error {
		m := clientv3.WatchResponse{Events: make([]*clientv3.Event, len(events))}
		for i, e := range events {
			m.Events[i] = (*clientv3.Event)(kineapi.WireEvent(e, true))
		}
		m.Header.Revision = events[len(events)-1].KV.ModRevision
		w.notified.Store(m.Header.Revision)
		return w.send(ctx, h.ctx, m)
	}, func() {
		if !w.progress.Swap(false) {
			return
		}
		revision, ok := h.synced([]*watcher{w.watcher})
		if !ok { // something came meanwhile, and rest will be called again
			w.progress.Store(true)
			return
		}
		w.notified.Store(revision)
		_ = w.send(ctx, h.ctx, clientv3.WatchResponse{Header: etcdserverpb.ResponseHeader{Revision: revision}})
	})
}

func (w *watchCall) send(ctx, serving context.Context, m clientv3.WatchResponse) error {
	select {
	case w.out <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-serving.Done():
		return serving.Err()
	}
}

func (c *Calls) add(w *watchCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.watches) == 0 {
		c.s.add(c)
	}
	c.watches[w] = struct{}{}
}

func (c *Calls) remove(w *watchCall) {
	c.s.hub.unsubscribe(w.watcher)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watches, w)
	if len(c.watches) == 0 {
		c.s.remove(c)
	}
}

// RequestProgress implements clientv3.Watcher: every watch of the client says
// how far it is as soon as it has delivered all that there was.
func (c *Calls) RequestProgress(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watches {
		w.progress.Store(true)
		w.poke()
	}
	return nil
}

// notify implements notified: it has the watches that asked for it say how far
// they are if there is something new.
func (c *Calls) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watches {
		if w.periodic && w.notified.Load() < c.s.hub.Revision() {
			w.progress.Store(true)
			w.poke()
		}
	}
}

// Close implements clientv3.Watcher.
func (c *Calls) Close() error {
	c.cancel()
	return nil
}
