package processors

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

func TestPace(t *testing.T) {
	var p pace
	see := func(percent int) bool { return p.see(time.Duration(percent)*time.Second/100, time.Second) }
	for i := range quietLooks - 1 {
		if see(1) || p.resting {
			t.Fatalf("at rest after %d quiet looks", i+1)
		}
	}
	if see(150) || see(1) || p.resting {
		t.Fatal("at rest although there was work a moment ago")
	}
	for range quietLooks - 2 {
		see(1)
	}
	if !see(1) || !p.resting {
		t.Fatal("not at rest after so many quiet looks")
	}
	if see(quiet+1) || !p.resting {
		t.Error("a little work ended the rest")
	}
	if !see(busy) || p.resting {
		t.Error("work did not end the rest")
	}
	if p.work() {
		t.Error("what was at work was woken up")
	}
	for range quietLooks {
		see(1)
	}
	if !p.work() || p.resting {
		t.Error("a burst did not end the rest")
	}
}

// TestTheProcessUsesOneProcessorAtRest works and rests in turn.
func TestTheProcessUsesOneProcessorAtRest(t *testing.T) {
	t.Cleanup(runtime.SetDefaultGOMAXPROCS)
	// A machine with one processor has one at work, too.
	runtime.SetDefaultGOMAXPROCS()
	usual := runtime.GOMAXPROCS(4)
	bursts := make(chan struct{})
	stop := run(t, "", bursts)
	await(t, "at rest", func(n int) bool { return n == 1 })
	work := make(chan struct{})
	go func() {
		for {
			select {
			case <-work:
				return
			default:
			}
		}
	}()
	await(t, "at work", func(n int) bool { return n == usual })
	close(work)
	await(t, "at rest again", func(n int) bool { return n == 1 })
	bursts <- struct{}{}
	await(t, "with many requests", func(n int) bool { return n == usual })
	await(t, "after them", func(n int) bool { return n == 1 })
	stop()
	await(t, "after the end", func(n int) bool { return n == usual })
}

func TestWhoSetsTheVariableDecides(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	run(t, "3", nil)()
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors, want the 3 that the variable says", n)
	}
}

// run runs the component of a process that is ready until stop is called.
func run(t *testing.T, value string, bursts <-chan struct{}) (stop func()) {
	t.Helper()
	ready := make(chan struct{})
	close(ready)
	log := logrus.New()
	log.SetOutput(io.Discard)
	c := New(ready, bursts, func(string) (string, bool) { return value, value != "" }, logrus.NewEntry(log))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func await(t *testing.T, when string, well func(int) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		n := runtime.GOMAXPROCS(0)
		if well(n) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processors %s", n, when)
		}
	}
}
