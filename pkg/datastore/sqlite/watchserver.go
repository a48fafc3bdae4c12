package sqlite

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
)

// notifyInterval is how often watchers who asked for it are told how far they
// are, so that after a lost connection they need not start from a revision that
// has been compacted. Compactions keep at least 5 minutes.
const notifyInterval = time.Minute

// The API server's key for its compactions and what kine stores it under; the
// first is taken by kine's own, see compactKey.
const (
	compactKeyAPI    = "compact_rev_key"
	compactKeyStored = "compact_rev_key_apiserver"
)

// watchServer is the Watch service of the etcd API. kine's own wakes ten times
// a second for each of the API server's 70 streams, which is more CPU at rest
// than everything else together, and answers progress requests up to 100 ms
// late. This one sleeps until there is something to say.
type watchServer struct {
	b  *backend
	mu sync.Mutex
	// streams are open, for the periodic notifications.
	streams map[notified]struct{}
}

// notified is watches that can tell their owner how far they are.
type notified interface{ notify() }

var _ etcdserverpb.WatchServer = (*watchServer)(nil)

func newWatchServer(b *backend) *watchServer {
	return &watchServer{b: b, streams: map[notified]struct{}{}}
}

// notify sends the periodic notifications until the backend ends.
func (s *watchServer) notify(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.b.ctx.Done():
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

func (s *watchServer) add(n notified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[n] = struct{}{}
}

func (s *watchServer) remove(n notified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, n)
}

// Watch implements etcdserverpb.WatchServer.
func (s *watchServer) Watch(ws etcdserverpb.Watch_WatchServer) error {
	st := &watchStream{b: s.b, ws: ws, watches: map[int64]*watch{}}
	s.add(st)
	defer s.remove(st)
	ctx, cancel := context.WithCancel(ws.Context())
	received := make(chan error, 1)
	go func() { received <- st.receive(ctx) }()
	var err error
	select {
	case err = <-received:
	case <-s.b.ctx.Done():
		err = status.Error(codes.Unavailable, "datastore is stopping")
	}
	cancel()
	st.running.Wait()
	return err
}

// watchStream is one client's stream with any number of watches on it.
type watchStream struct {
	b       *backend
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

func (st *watchStream) receive(ctx context.Context) error {
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

func (st *watchStream) create(ctx context.Context, r *etcdserverpb.WatchCreateRequest) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, used := st.watches[r.WatchId]; used || r.WatchId < 0 || r.StartRevision < 0 {
		return st.ws.Send(&etcdserverpb.WatchResponse{
			Header: st.header(st.b.current.Load()), WatchId: clientv3.InvalidWatchID,
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
	keys := keyRange{storedKey(r.Key), string(r.RangeEnd)}
	var current int64
	w.watcher, current = st.b.hub.subscribe(keys, r.StartRevision)
	st.watches[id] = w
	ctx, w.cancel = context.WithCancel(ctx)
	st.running.Go(func() { st.run(ctx, w, r.StartRevision) })
	// The goroutine can not send before this: it needs the lock.
	return st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(current), WatchId: id, Created: true})
}

// run delivers a watch's events until it ends, and tells the client why if the
// reason is not the client itself.
func (st *watchStream) run(ctx context.Context, w *watch, from int64) {
	defer w.cancel()
	defer st.b.hub.unsubscribe(w.watcher)
	err := server.ErrCompacted
	if compacted := st.b.compacted.Load(); from == 0 || from > compacted {
		err = st.b.deliver(ctx, w.watcher, func(events []*server.Event) error { return st.send(w, events) }, st.flushProgress)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.watches, w.id)
	if !w.cancelling && (ctx.Err() != nil || st.b.ctx.Err() != nil) {
		return // the whole stream ends, and the client will come again
	}
	m := &etcdserverpb.WatchResponse{Header: st.header(st.b.current.Load()), WatchId: w.id, Canceled: true}
	switch {
	case w.cancelling:
	case errors.Is(err, server.ErrCompacted):
		m.CompactRevision = st.b.compacted.Load()
		m.CancelReason = rpctypes.ErrorDesc(server.ErrCompacted)
	default:
		m.CancelReason = rpctypes.ErrorDesc(err)
	}
	// An error here is the end of the stream, which the receiver sees too.
	_ = st.ws.Send(m)
}

func (st *watchStream) end(id int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w := st.watches[id]; w != nil {
		w.cancelling = true
		w.cancel()
	}
}

func (st *watchStream) header(revision int64) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{Revision: revision}
}

func (st *watchStream) send(w *watch, events []*server.Event) error {
	m := &etcdserverpb.WatchResponse{WatchId: w.id, Events: make([]*mvccpb.Event, 0, len(events))}
	for _, e := range events {
		if e.Delete && w.noDelete || !e.Delete && w.noPut {
			continue
		}
		m.Events = append(m.Events, wireEvent(e, w.prevKV))
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
func (st *watchStream) requestProgress() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.progress = true
	return st.sendProgress()
}

// flushProgress is called by each watch that has nothing left to send.
func (st *watchStream) flushProgress() {
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.sendProgress()
}

// sendProgress must be called with the lock held: as nobody else can send, no
// later event can be on the stream before the notification.
func (st *watchStream) sendProgress() error {
	if !st.progress {
		return nil
	}
	watchers := make([]*watcher, 0, len(st.watches))
	for _, w := range st.watches {
		watchers = append(watchers, w.watcher)
	}
	revision, ok := st.b.hub.synced(watchers)
	if !ok {
		return nil
	}
	st.progress = false
	return st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(revision), WatchId: clientv3.InvalidWatchID})
}

// notify sends the periodic notification to each watch that asked for it and
// has not heard of the newest revision yet.
func (st *watchStream) notify() {
	if !st.mu.TryLock() {
		return // something is being sent, or can not be
	}
	defer st.mu.Unlock()
	for _, w := range st.watches {
		if !w.progressNotify || w.cancelling {
			continue
		}
		revision, ok := st.b.hub.synced([]*watcher{w.watcher})
		if !ok || revision <= w.notified {
			continue
		}
		w.notified = revision
		if st.ws.Send(&etcdserverpb.WatchResponse{Header: st.header(revision), WatchId: w.id}) != nil {
			return
		}
	}
}

func wireEvent(e *server.Event, prevKV bool) *mvccpb.Event {
	m := &mvccpb.Event{Type: mvccpb.PUT, Kv: wireKV(e.KV)}
	if e.Delete {
		m.Type = mvccpb.DELETE
	}
	if prevKV && !e.Create {
		m.PrevKv = wireKV(e.PrevKV)
	}
	return m
}

func wireKV(kv *server.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	m := &mvccpb.KeyValue{
		Key: []byte(kv.Key), Value: kv.Value, Version: kv.Version, Lease: kv.Lease,
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
	}
	if kv.Key == compactKeyStored {
		m.Key = []byte(compactKeyAPI)
		m.Version, m.Value = server.DecodeVersion(kv.Value)
	}
	return m
}
