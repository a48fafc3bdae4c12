package joinapi

import (
	"net/netip"
	"sync"
	"time"

	"k8s.io/utils/lru"
)

const (
	// From one address: ten failures at once, then one every six seconds.
	sourceBurst  = 10
	sourceRefill = 6 * time.Second
	// From all together: what a cluster may see when a token was replaced
	// and its agents do not know yet.
	overallBurst  = 200
	overallRefill = 100 * time.Millisecond
	// maxSources bounds the memory of it, some 100 bytes each. Who has more
	// addresses than that is held up by the overall limit.
	maxSources = 4096
)

// limiter limits failed attempts. An attempt takes its share first and gets it
// back when it succeeds, so that many at once do not slip through. It is safe
// for concurrent use.
type limiter struct {
	mu      sync.Mutex
	overall bucket
	sources *lru.Cache // netip.Prefix to *bucket
}

func newLimiter() *limiter {
	return &limiter{overall: bucket{left: overallBurst}, sources: lru.New(maxSources)}
}

// bucket holds what is left of a burst at a time.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) refill(now time.Time, burst float64, each time.Duration) {
	if !b.at.IsZero() {
		b.left = min(burst, b.left+float64(now.Sub(b.at))/float64(each))
	}
	b.at = now
}

// wait is how long until there is a whole one.
func (b *bucket) wait(each time.Duration) time.Duration {
	if b.left >= 1 {
		return 0
	}
	return time.Duration((1 - b.left) * float64(each))
}

// take says whether an attempt may be made, or when to try again.
func (l *limiter) take(from netip.Prefix) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	own := l.of(from)
	own.refill(now, sourceBurst, sourceRefill)
	l.overall.refill(now, overallBurst, overallRefill)
	if wait = max(own.wait(sourceRefill), l.overall.wait(overallRefill)); wait > 0 {
		return wait, false
	}
	own.left--
	l.overall.left--
	return 0, true
}

// giveBack undoes take, after an attempt that did not fail.
func (l *limiter) giveBack(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.of(from)
	own.left = min(sourceBurst, own.left+1)
	l.overall.left = min(overallBurst, l.overall.left+1)
}

func (l *limiter) of(from netip.Prefix) *bucket {
	if b, ok := l.sources.Get(from); ok {
		return b.(*bucket)
	}
	b := &bucket{left: sourceBurst}
	l.sources.Add(from, b)
	return b
}
