package sqlite

import (
	"sync"

	"github.com/k3s-io/kine/pkg/server"
)

const (
	// maxPending and maxPendingBytes bound what one watcher may hold in
	// memory; beyond them it reads from the table what it missed.
	maxPending      = 512
	maxPendingBytes = 2 << 20
	// historyBatch is how many old events are read at once.
	historyBatch = 500
)

// hub hands committed events to watchers. The writer publishes; each watcher
// has a goroutine that delivers. Nothing is ever dropped: a watcher that is too
// slow for its queue goes back to reading the table.
type hub struct {
	mu       sync.Mutex
	revision int64 // newest published
	watchers map[*watcher]struct{}
}

func newHub(revision int64) *hub {
	return &hub{revision: revision, watchers: map[*watcher]struct{}{}}
}

// keyRange is a key when end is empty, everything from key on when end is
// "\0", and else the keys from key up to but without end, as in etcd.
type keyRange struct{ key, end string }

func (r keyRange) contains(key string) bool {
	switch r.end {
	case "":
		return key == r.key
	case "\x00":
		return key >= r.key
	}
	return key >= r.key && key < r.end
}

// watcher is one range of keys that somebody watches.
type watcher struct {
	keyRange
	wake chan struct{} // holds a token when there is something to take

	// Guarded by hub.mu. Every matching event up to position was taken by the
	// goroutine; those in (position, readTo] are to be read from the table;
	// those after readTo are in pending.
	position, readTo int64
	pending          []*server.Event
	pendingBytes     int
	// taken says that the goroutine holds something it has not delivered yet.
	taken bool
}

func (h *hub) publish(revision int64, events []*server.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
	for w := range h.watchers {
		w.add(revision, events)
	}
}

func (w *watcher) add(revision int64, events []*server.Event) {
	before := len(w.pending)
	for _, e := range events {
		if e.KV.ModRevision > w.position && w.contains(e.KV.Key) {
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
	case len(w.pending) > maxPending || w.pendingBytes > maxPendingBytes:
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
func (h *hub) subscribe(r keyRange, revision int64) (w *watcher, current int64) {
	w = &watcher{keyRange: r, wake: make(chan struct{}, 1)}
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

func (h *hub) unsubscribe(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// take gives a watcher what to deliver next: events, or with to > 0 a span of
// revisions to read from the table, or nothing.
func (h *hub) take(w *watcher) (events []*server.Event, from, to int64) {
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
func (h *hub) delivered(w *watcher, position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.taken = false
	w.position = max(w.position, position)
}

// synced says whether all of these watchers have delivered everything there is,
// and which revision that is.
func (h *hub) synced(watchers []*watcher) (revision int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range watchers {
		if w.taken || len(w.pending) > 0 || w.position < w.readTo {
			return 0, false
		}
	}
	return h.revision, true
}
