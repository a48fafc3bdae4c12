package memory

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// At rest a server makes about a quarter of a megabyte of garbage in a second
// (measured with two idle pods): at 100 % Go lets it lie for two minutes, which
// is when it collects at the latest. At half of that, a collection comes little
// sooner and finds half as much.
const (
	// restAfter without a collection is rest: the steady percentage is more
	// than is needed.
	restAfter = time.Minute
	// loadWithin of the collection before is load. It is less than what
	// restAfter becomes with the percentage of rest, so that a process between
	// the two does not go to and fro.
	loadWithin = 10 * time.Second
)

// pace is the percentage that follows a collection so long after the one before.
func (c Collector) pace(percent int, since time.Duration) int {
	switch {
	case since >= restAfter:
		return c.rest
	case since < loadWithin:
		return c.steady
	}
	return percent
}

// keepPace lets little garbage lie while the process rests, and as much as the
// profile allows while it works, until ctx ends. It wakes up with the collector
// and with bursts only.
func (c Collector) keepPace(ctx context.Context, bursts <-chan struct{}) {
	percent, last := c.rest, time.Now()
	debug.SetGCPercent(percent)
	collected := make(chan struct{}, 1)
	stop := afterCollections(func() {
		select {
		case collected <- struct{}{}:
		default:
		}
	})
	defer stop()
	for {
		var next int
		select {
		case <-ctx.Done():
			return
		case <-bursts:
			next = c.steady
		case <-collected:
			next = c.pace(percent, time.Since(last))
		}
		if next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
		last = time.Now()
	}
}

// afterCollections calls f, from any goroutine, after each collection until
// stop is called.
func afterCollections(f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	// An object that nobody holds is found by the next collection. It has a
	// pointer, because small ones without may share their memory with others.
	type unused struct{ next *unused }
	var arm func()
	arm = func() {
		runtime.AddCleanup(&unused{}, func(f func()) {
			if ctx.Err() == nil {
				f()
				arm()
			}
		}, f)
	}
	arm()
	return cancel
}
