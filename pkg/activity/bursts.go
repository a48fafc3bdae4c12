// Package activity notices that many requests come at once, for what the process
// saves while it rests: with a look every now and then, a burst is half over
// before it is seen. pkg/server counts requests; pkg/daemon has pkg/memory and
// pkg/processors told.
package activity

import (
	"sync"
	"sync/atomic"
	"time"
)

// So many requests from outside within a moment are a burst. At rest there are
// a few in a minute; one after the other, each answered in half a millisecond,
// they are one as well.
const (
	many   = 8
	moment = 25 * time.Millisecond
	// again is how long nothing more is said about a burst that goes on.
	again = time.Second
)

// Bursts counts requests. All methods may be called by many goroutines at once.
type Bursts struct {
	// began makes times comparable that clock changes do not touch.
	began time.Time
	// since is when counting began, in nanoseconds since began; while nothing
	// is to be said, that is in the future.
	since atomic.Int64
	count atomic.Int64

	mu          sync.Mutex
	subscribers []chan struct{}
}

// New has counted nothing yet.
func New() *Bursts { return &Bursts{began: time.Now()} }

// Request counts one.
func (b *Bursts) Request() { b.request(int64(time.Since(b.began))) }

func (b *Bursts) request(now int64) {
	switch since := b.since.Load(); {
	case now < since:
		return
	case now-since > int64(moment):
		// Two who begin at once lose a request, which matters to nobody.
		b.since.Store(now)
		b.count.Store(1)
		return
	}
	if b.count.Add(1) == many {
		b.since.Store(now + int64(again))
		b.announce()
	}
}

func (b *Bursts) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subscribers {
		select {
		case s <- struct{}{}:
		default:
		}
	}
}

// Subscribe gives a channel that has something whenever there is a burst, once
// a second while it lasts. Without Bursts there are none.
func (b *Bursts) Subscribe() <-chan struct{} {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := make(chan struct{}, 1)
	b.subscribers = append(b.subscribers, s)
	return s
}
