package sqlite

import (
	"context"
	"database/sql/driver"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

// How exactly keys with a lease expire: never early, and at most so much late.
// The later, the more of them go together, and each time costs a flush of the
// disk. Events, which live for an hour, are nearly all of them.
const (
	longLease    = 10 * time.Minute
	longRounding = 30 * time.Second
	rounding     = time.Second
)

// expiryRetry is how long keys wait that could not be deleted.
const expiryRetry = 30 * time.Second

// expirer deletes keys whose lease has ended. It sleeps until the next ones
// are due, hears of leases from the writer, and deletes what is due in as few
// commits as possible.
type expirer struct {
	b    *backend
	wake chan struct{} // holds a token when something is due earlier than before

	// Times are since the start, by a clock that nobody sets.
	start time.Time
	mu    sync.Mutex
	keys  map[time.Duration][]leased // by when they are due, rounded up
	next  time.Duration              // when the run loop wakes; 0 when it sleeps
}

// leased is a key as of the revision that has the lease. A key that was changed
// since then is not meant: its new revision has a lease of its own, or none.
type leased struct {
	key      string
	revision int64
}

func newExpirer(b *backend) *expirer {
	return &expirer{b: b, wake: make(chan struct{}, 1), start: time.Now(), keys: map[time.Duration][]leased{}}
}

// wrote tells of a commit; the writer calls it.
func (e *expirer) wrote(events []*server.Event) {
	for _, event := range events {
		if event.KV.Lease > 0 && !event.Delete {
			e.add(leased{event.KV.Key, event.KV.ModRevision}, time.Duration(event.KV.Lease)*time.Second)
		}
	}
}

func (e *expirer) add(k leased, lease time.Duration) {
	step := rounding
	if lease >= longLease {
		step = longRounding
	}
	e.put((time.Since(e.start) + lease + step - 1).Truncate(step), k)
}

func (e *expirer) put(due time.Duration, keys ...leased) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys[due] = append(e.keys[due], keys...)
	if e.next == 0 || due < e.next {
		e.next = due
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// seed finds the keys of earlier starts. Their time begins again, as nothing
// says when it began.
func (e *expirer) seed() error {
	return e.b.read(e.b.ctx, "leases", func(db *conn) error {
		return db.query(e.b.ctx, leasesSQL, func(row []driver.Value) error {
			e.add(leased{text(row[0]), integer(row[1])}, time.Duration(integer(row[2]))*time.Second)
			return nil
		}, "", noEnd, e.b.current.Load())
	})
}

func (e *expirer) run() {
	if err := e.seed(); err != nil && e.b.ctx.Err() == nil {
		e.b.log.WithError(err).Error("Can not find the keys with a lease: those of earlier starts stay")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.wake:
		case <-timer.C:
		case <-e.b.ctx.Done():
			return
		}
		keys, next := e.due(time.Since(e.start))
		if next > 0 {
			timer.Reset(next - time.Since(e.start))
		}
		e.expire(keys)
	}
}

// due takes the keys whose time has come and says when the next ones are due,
// 0 for never.
func (e *expirer) due(now time.Duration) (keys []leased, next time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = 0
	for at, k := range e.keys {
		switch {
		case at <= now:
			keys = append(keys, k...)
			delete(e.keys, at)
		case e.next == 0 || at < e.next:
			e.next = at
		}
	}
	return keys, e.next
}

// expire deletes keys. They are queued all before the first is waited for, so
// that they share commits.
func (e *expirer) expire(keys []leased) {
	var failed []leased
	for len(keys) > 0 {
		group := keys[:min(len(keys), maxGroup)]
		keys = keys[len(group):]
		writes := make([]*write, 0, len(group))
		for _, k := range group {
			w := &write{op: opDelete, key: k.key, revision: k.revision}
			if err := e.b.writer.queue(context.Background(), w); err != nil {
				return // the datastore stops
			}
			writes = append(writes, w)
		}
		for i, w := range writes {
			if o := e.b.writer.answer(w); o.err != nil {
				failed = append(failed, group[i])
			}
		}
	}
	if len(failed) > 0 && e.b.ctx.Err() == nil {
		e.b.log.Warnf("%d keys whose lease has ended could not be deleted, trying again later", len(failed))
		e.put(time.Since(e.start)+expiryRetry, failed...)
	}
}
