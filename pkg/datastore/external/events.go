package external

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// What kine keeps for itself among the rows.
const (
	compactKey = "compact_rev_key"
	gapPrefix  = "gap-"
)

// reopen is the pause before events are asked for again that could not be had.
const reopen = time.Second

// stalled is how long a read waits for the stream of events: kine gives up a row
// that does not show up after a second.
const stalled = 3 * time.Second

// errEnded is a stream of kine's that ended without saying why: its reader was
// too slow, or the database failed.
var errEnded = errors.New("kine has ended its stream of events")

// events is what happens in a database, in order. Writers number their rows
// before they commit them, so that a row may show up after one with a larger
// number. kine's loop that asks for news waits for such rows; what it tells of
// is final. Its watches begin with a look at the table that does not wait, and
// drop what comes late. So there is one watch here for everything, and the
// others get theirs from it and, for what was before, from the table up to where
// that one watch is.
type events struct {
	b         server.Backend
	hub       *kinewatch.Hub
	log       *logrus.Entry
	hide      func(error) error
	compacted atomic.Int64
	// begin has the stream begin again.
	begin atomic.Pointer[context.CancelFunc]
}

var _ kinewatch.Source = (*events)(nil)

// newEvents begins with the state that there is. Watches end with ctx; hide
// takes credentials out of errors.
func newEvents(ctx context.Context, b server.Backend, log *logrus.Entry, hide func(error) error) (*events, error) {
	e := &events{b: b, log: log, hide: hide}
	revision, err := e.newest(ctx)
	if err != nil {
		return nil, err
	}
	e.hub = kinewatch.NewHub(ctx, e, revision, log)
	return e, nil
}

// run publishes what happens until ctx ends.
func (e *events) run(ctx context.Context) {
	for {
		err := e.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		e.log.WithError(e.hide(err)).Debug("The stream of the database's events begins again")
		select {
		case <-time.After(reopen):
		case <-ctx.Done():
			return
		}
	}
}

// follow publishes what happens for as long as kine's stream lasts.
func (e *events) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.begin.Store(&cancel)
	from, err := e.newest(ctx)
	if err != nil {
		return err
	}
	s, err := e.open(ctx, from)
	if err != nil {
		return err
	}
	defer s.close()
	// What the stream begins with is at least the newest row. Whatever else is
	// between where the hub is and there is read by each watcher.
	first, err := s.next(ctx)
	if err != nil {
		return err
	}
	if to := last(first); to > e.hub.Revision() {
		if err := e.waitForSync(ctx, to); err != nil {
			return err
		}
		e.hub.Skip(to)
	}
	for {
		batch, err := s.next(ctx)
		if err != nil {
			return err
		}
		e.hub.Publish(last(batch), clients(batch, func(*server.Event) bool { return true }))
	}
}

// waitForSync waits until kine's loop has passed a revision, which it tells of
// at the latest when it looks again, a second later.
func (e *events) waitForSync(ctx context.Context, revision int64) error {
	done := make(chan struct{})
	go func() {
		e.b.WaitForSyncTo(revision)
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newest asks the database itself: what kine remembers does not have the last
// second of other servers. It is a read of a row that is always there, because
// kine's loop then looks for what it does not have yet.
func (e *events) newest(ctx context.Context) (int64, error) {
	revision, kv, err := e.b.Get(ctx, server.HealthKey, 0, true)
	if err == nil && kv == nil {
		revision, _, err = e.b.Count(ctx, "\x01", "\x02", 0)
	}
	return revision, err
}

// current is the newest revision that any client may know of. No write with a
// smaller one will show up any more, unless the stream stands still: it begins
// again then, and reads go on.
func (e *events) current(ctx context.Context) (int64, error) {
	revision, err := e.newest(ctx)
	if err != nil {
		return 0, err
	}
	bound, cancel := context.WithTimeout(ctx, stalled)
	defer cancel()
	err = e.hub.Await(bound, revision)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		e.log.Warnf("Revision %d has not been told of within %s: the stream of the database's events begins again", revision, stalled)
		if begin := e.begin.Load(); begin != nil {
			(*begin)()
		}
		err = nil
	}
	return revision, err
}

// Settle implements kinewatch.Source.
func (e *events) Settle(ctx context.Context) error {
	_, err := e.current(ctx)
	return err
}

// Compacted implements kinewatch.Source. It is what was met last: the database
// may have been compacted since, which History finds out.
func (e *events) Compacted() int64 { return e.compacted.Load() }

// History implements kinewatch.Source. All that it reads has been published, so
// that nothing can be missing.
func (e *events) History(ctx context.Context, r kinewatch.Range, from, to int64) ([]*server.Event, int64, error) {
	s, err := e.open(ctx, from+1)
	if err != nil {
		return nil, 0, err
	}
	defer s.close()
	// Of all keys, which are never none: without any kine would say nothing.
	all, err := s.next(ctx)
	if err != nil {
		return nil, 0, err
	}
	return clients(all, func(event *server.Event) bool {
		return event.KV.ModRevision > from && event.KV.ModRevision <= to && r.Contains(event.KV.Key)
	}), to, nil
}

// stream is one of kine's watches.
type stream struct {
	server.WatchResult
	cancel context.CancelFunc
}

// open watches all keys from a revision on.
func (e *events) open(ctx context.Context, from int64) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{e.b.Watch(ctx, "", "", from), cancel}
	if s.CompactRevision != 0 {
		s.close()
		e.compacted.Store(s.CompactRevision)
		return nil, server.ErrCompacted
	}
	return s, nil
}

// next is some events, at least one.
func (s *stream) next(ctx context.Context) ([]*server.Event, error) {
	for {
		select {
		case batch, ok := <-s.Events:
			if !ok {
				return nil, s.why()
			}
			if len(batch) > 0 {
				return batch, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *stream) why() error {
	select {
	case err := <-s.Errorc:
		return err
	default:
		return errEnded
	}
}

// close ends the watch; kine wants its events to be read until then.
func (s *stream) close() {
	s.cancel()
	go func() {
		for range s.Events {
		}
	}()
}

func last(batch []*server.Event) int64 { return batch[len(batch)-1].KV.ModRevision }

// clients leaves out what is kine's own and what is not wanted.
func clients(batch []*server.Event, wanted func(*server.Event) bool) []*server.Event {
	kept := make([]*server.Event, 0, len(batch))
	for _, event := range batch {
		if key := event.KV.Key; key != compactKey && !strings.HasPrefix(key, gapPrefix) && wanted(event) {
			kept = append(kept, event)
		}
	}
	return kept
}
