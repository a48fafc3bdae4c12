package kinewatch

import (
	"context"
	"sync"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
)

const (
	// MaxPending and maxPendingBytes bound what one watcher may hold in
	// memory; beyond them it reads from the table what it missed.
	MaxPending      = 512
	maxPendingBytes = 2 << 20
)

// Source is where the events of a hub come from.
type Source interface {
	// History reads the events of a range in (from, to], as many as it likes,
	// and says up to which revision it has them all. Where they have been
	// compacted the error is server.ErrCompacted.
	History(ctx context.Context, r Range, from, to int64) (events []*server.Event, position int64, err error)
	// Compacted is the revision up to which events may be gone.
	Compacted() int64
	// Settle returns when everything has been published that any client may
	// know of.
	Settle(ctx context.Context) error
}

// Hub hands committed events to watchers. Its owner publishes; each watcher
// has a goroutine that delivers. Nothing is ever dropped: a watcher that is too
// slow for its queue goes back to reading the table. It may be used by many
// goroutines at once.
type Hub struct {
	// ctx ends when the owner stops serving.
	ctx    context.Context
	source Source
	log    *logrus.Entry

	mu       sync.Mutex
	revision int64 // newest published
	watchers map[*watcher]struct{}
	// published is closed by the next publication if somebody waits for it.
	published chan struct{}
}

// NewHub makes a hub of a source whose newest revision is known. Its watches
// end with ctx.
func NewHub(ctx context.Context, source Source, revision int64, log *logrus.Entry) *Hub {
	return &Hub{ctx: ctx, source: source, log: log, revision: revision, watchers: map[*watcher]struct{}{}}
}

// Range is a key when End is empty, everything from Key on when End is
// "\0", and else the keys from Key up to but without End, as in etcd.
type Range struct{ Key, End string }

// Contains says whether a key is in the range.
func (r Range) Contains(key string) bool {
	switch r.End {
	case "":
		return key == r.Key
	case "\x00":
		return key >= r.Key
	}
	return key >= r.Key && key < r.End
}

// watcher is one range of keys that somebody watches.
type watcher struct {
	Range
	wake chan struct{} // holds a token when there is something to take

	// Guarded by Hub.mu. Every matching event up to position was taken by the
	// goroutine; those in (position, readTo] are to be read from the table;
	// those after readTo are in pending.
	position, readTo int64
	pending          []*server.Event
	pendingBytes     int
	// taken says that the goroutine holds something it has not delivered yet.
	taken bool
}

// Publish hands on the events up to a revision, in order. Whoever calls it has
// published everything below before, and never calls it twice at a time.
func (h *Hub) Publish(revision int64, events []*server.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
	for w := range h.watchers {
		w.add(revision, events)
	}
	h.announce()
}

// Skip goes on to a revision without the events up to it: watchers read them
// from the table, or learn there that they have been compacted.
func (h *Hub) Skip(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
	for w := range h.watchers {
		w.pending, w.pendingBytes = nil, 0
		w.readTo = revision
		w.poke()
	}
	h.announce()
}

// announce must be called with the lock held.
func (h *Hub) announce() {
	if h.published != nil {
		close(h.published)
		h.published = nil
	}
}

// Revision is the newest that was published.
func (h *Hub) Revision() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// Await returns when a revision has been published.
func (h *Hub) Await(ctx context.Context, revision int64) error {
	for {
		h.mu.Lock()
		if h.revision >= revision {
			h.mu.Unlock()
			return nil
		}
		if h.published == nil {
			h.published = make(chan struct{})
		}
		published := h.published
		h.mu.Unlock()
		select {
		case <-published:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
	}
}

func (w *watcher) add(revision int64, events []*server.Event) {
	before := len(w.pending)
	for _, e := range events {
		if e.KV.ModRevision > w.position && w.Contains(e.KV.Key) {
			w.pending = append(w.pending, e)
			w.pendingBytes += len(e.KV.Value)
		}
	}
	switch {
	case len(w.pending) == before:
		if before == 0 && w.position >= w.readTo && revision > w.position {
			w.position, w.readTo = revision, revision
		}
		return
	case len(w.pending) > MaxPending || w.pendingBytes > maxPendingBytes:
		w.pending, w.pendingBytes = nil, 0
		w.readTo = revision
	}
	w.poke()
}

// poke has the watcher's goroutine look whether there is anything to do.
func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// subscribe adds a watcher that wants every event of its range from revision
// on; 0 is from now. It says what the newest revision is at that moment.
func (h *Hub) subscribe(r Range, revision int64) (w *watcher, current int64) {
	w = &watcher{Range: r, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.position, w.readTo = h.revision, h.revision
	if revision > 0 {
		w.position = revision - 1
	}
	if w.position < w.readTo {
		w.wake <- struct{}{}
	}
	h.watchers[w] = struct{}{}
	return w, h.revision
}

func (h *Hub) unsubscribe(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// take gives a watcher what to deliver next: events, or with to > 0 a span of
// revisions to read from the table, or nothing.
func (h *Hub) take(w *watcher) (events []*server.Event, from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.position < w.readTo {
		w.taken = true
		return nil, w.position, w.readTo
	}
	if len(w.pending) == 0 {
		return nil, 0, 0
	}
	events = w.pending
	w.pending, w.pendingBytes = nil, 0
	w.taken = true
	w.position = events[len(events)-1].KV.ModRevision
	w.readTo = max(w.readTo, w.position)
	return events, 0, 0
}

// delivered ends what take began; position is how far the table has been read,
// 0 when it was not.
func (h *Hub) delivered(w *watcher, position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.taken = false
	w.position = max(w.position, position)
}

// synced says whether all of these watchers have delivered everything there is,
// and which revision that is.
func (h *Hub) synced(watchers []*watcher) (revision int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range watchers {
		if w.taken || len(w.pending) > 0 || w.position < w.readTo {
			return 0, false
		}
	}
	return h.revision, true
}
