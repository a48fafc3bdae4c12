package kinewatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// Server is the Watch service of the etcd API.
type Server struct {
	hub *Hub
	mu  sync.Mutex
	// streams are open, for the periodic notifications.
	streams map[notified]struct{}
}

// notified is watches that can tell their owner how far they are.
type notified interface{ notify() }

var _ etcdserverpb.WatchServer = (*Server)(nil)

// NewServer makes the service for the events of a hub.
func NewServer(h *Hub) *Server {
	return &Server{hub: h, streams: map[notified]struct{}{}}
}

// Notify tells watchers who asked for it how far they are, once in each
// interval, until the hub ends.
func (s *Server) Notify(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.hub.ctx.Done():
			return
		}
		s.mu.Lock()
		for st := range s.streams {
			// A client that does not read must not keep the others waiting.
			go st.notify()
		}
		s.mu.Unlock()
	}
}

func (s *Server) add(n notified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[n] = struct{}{}
}

func (s *Server) remove(n notified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, n)
}

// Watch implements etcdserverpb.WatchServer.
func (s *Server) Watch(ws etcdserverpb.Watch_WatchServer) error {
	st := &stream{hub: s.hub, ws: ws, watches: map[int64]*watch{}}
	s.add(st)
	defer s.remove(st)
	ctx, cancel := context.WithCancel(ws.Context())
	received := make(chan error, 1)
	go func() { received <- st.receive(ctx) }()
	var err error
	select {
	case err = <-received:
	case <-s.hub.ctx.Done():
		err = status.Error(codes.Unavailable, "datastore is stopping")
	}
	cancel()
	st.running.Wait()
	return err
}

// stream is one client's stream with any number of watches on it.
type stream struct {
	hub     *Hub
	running sync.WaitGroup // goroutines of watches

	mu       sync.Mutex // guards what follows and sending
	ws       etcdserverpb.Watch_WatchServer
	watches  map[int64]*watch
	last     int64 // newest identifier given
	progress bool  // somebody waits for a progress notification
}

// watch is one watch of a stream.
type watch struct {
	*watcher
	id                         int64
	prevKV, noPut, noDelete    bool
	progressNotify, cancelling bool
	notified                   int64 // revision of the last message
	cancel                     context.CancelFunc
}

func (st *stream) receive(ctx context.Context) error {
	for {
		m, err := st.ws.Recv()
		if err != nil {
			return err
		}
		switch {
		case m.GetCreateRequest() != nil:
			err = st.create(ctx, m.GetCreateRequest())
		case m.GetCancelRequest() != nil:
			st.end(m.GetCancelRequest().WatchId)
		case m.GetProgressRequest() != nil:
			err = st.requestProgress()
		}
		if err != nil {
			return err
		}
	}
}

func (st *stream) create(ctx context.Context, r *etcdserverpb.WatchCreateRequest) error {
	if r.StartRevision == 0 {
		if err := st.hub.source.Settle(ctx); err != nil {
			return err
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, used := st.watches[r.WatchId]; used || r.WatchId < 0 || r.StartRevision < 0 {
		return st.ws.Send(&etcdserverpb.WatchResponse{
			Header: st.header(st.hub.Revision()), WatchId: clientv3.InvalidWatchID,
			Created: true, Canceled: true, CancelReason: server.ErrInvalidWatch.Error(),
		})
	}
	id := r.WatchId
	for used := id == clientv3.AutoWatchID; used; {
		st.last++
		id = st.last
		_, used = st.watches[id]
	}
	w := &watch{
		id: id, prevKV: r.PrevKv, progressNotify: r.ProgressNotify,
		noPut:    slices.Contains(r.Filters, etcdserverpb.WatchCreateRequest_NOPUT),
		noDelete: slices.Contains(r.Filters, etcdserverpb.WatchCreateRequest_NODELETE),
	}
	keys := Range{kineapi.StoredKey(r.Key), string(r.RangeEnd)}
	var current int64
	w.watcher, current = st.hub.subscribe(keys, r.StartRevision)
	st.watches[id] = w
	ctx, w.cancel = context.WithCancel(ctx)
	st.running.Go(func() { st.run(ctx, w, r.StartRevision) })
	// The goroutine can not send before this: it needs the lock.
	return st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(current), WatchId: id, Created: true})
}

// run delivers a watch's events until it ends, and tells the client why if the
// reason is not the client itself.
func (st *stream) run(ctx context.Context, w *watch, from int64) {
	defer w.cancel()
	defer st.hub.unsubscribe(w.watcher)
	err := st.hub.deliver(ctx, w.watcher, from, func(events []*server.Event) error { return st.send(w, events) }, st.flushProgress)
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.watches, w.id)
	if !w.cancelling && (ctx.Err() != nil || st.hub.ctx.Err() != nil) {
		return // the whole stream ends, and the client will come again
	}
	m := &etcdserverpb.WatchResponse{Header: st.header(st.hub.Revision()), WatchId: w.id, Canceled: true}
	switch {
	case w.cancelling:
	case errors.Is(err, server.ErrCompacted):
		m.CompactRevision = st.hub.source.Compacted()
		m.CancelReason = rpctypes.ErrorDesc(server.ErrCompacted)
	default:
		m.CancelReason = rpctypes.ErrorDesc(err)
	}
	// An error here is the end of the stream, which the receiver sees too.
	_ = st.ws.Send(m)
}

func (st *stream) end(id int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w := st.watches[id]; w != nil {
		w.cancelling = true
		w.cancel()
	}
}

func (st *stream) header(revision int64) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{Revision: revision}
}

func (st *stream) send(w *watch, events []*server.Event) error {
	m := &etcdserverpb.WatchResponse{WatchId: w.id, Events: make([]*mvccpb.Event, 0, len(events))}
	for _, e := range events {
		if e.Delete && w.noDelete || !e.Delete && w.noPut {
			continue
		}
		m.Events = append(m.Events, kineapi.WireEvent(e, w.prevKV))
	}
	if len(m.Events) == 0 {
		return nil
	}
	revision := events[len(events)-1].KV.ModRevision
	m.Header = st.header(revision)
	st.mu.Lock()
	defer st.mu.Unlock()
	w.notified = revision
	return st.ws.Send(m)
}

// requestProgress answers at once when all watches of the stream have sent
// everything, and else as soon as they have.
func (st *stream) requestProgress() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.progress = true
	return st.sendProgress()
}

// flushProgress is called by each watch that has nothing left to send.
func (st *stream) flushProgress() {
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.sendProgress()
}

// sendProgress must be called with the lock held: as nobody else can send, no
// later event can be on the stream before the notification.
func (st *stream) sendProgress() error {
	if !st.progress {
		return nil
	}
	watchers := make([]*watcher, 0, len(st.watches))
	for _, w := range st.watches {
		watchers = append(watchers, w.watcher)
	}
	revision, ok := st.hub.synced(watchers)
	if !ok {
		return nil
	}
	st.progress = false
	return st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(revision), WatchId: clientv3.InvalidWatchID})
}

// notify sends the periodic notification to each watch that asked for it and
// has not heard of the newest revision yet.
func (st *stream) notify() {
	if !st.mu.TryLock() {
		return // something is being sent, or can not be
	}
	defer st.mu.Unlock()
	for _, w := range st.watches {
		if !w.progressNotify || w.cancelling {
			continue
		}
		revision, ok := st.hub.synced([]*watcher{w.watcher})
		if !ok || revision <= w.notified {
			continue
		}
		w.notified = revision
		if st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(revision), WatchId: w.id}) != nil {
			return
		}
	}
}
