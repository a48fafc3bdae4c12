package memory

import (
	"context"
	"io"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
)

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

func TestBegin(t *testing.T) {
	before := debug.SetGCPercent(77)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for _, tc := range []struct {
		name, profile, variable string
		want                    int
	}{
		{"a profile sets the collector", tiny, "", 40},
		{"auto takes one that fits", auto, "", 40},
		{"who sets the variable decides", tiny, "33", 77},
	} {
		t.Run(tc.name, func(t *testing.T) {
			debug.SetGCPercent(77)
			Begin(tc.profile, Process{Root: t.TempDir(), Lookup: func(string) (string, bool) { return tc.variable, tc.variable != "" }}, quiet())
			if got := debug.SetGCPercent(77); got != tc.want {
				t.Errorf("percentage %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTheStartsMemoryGoesBack(t *testing.T) {
	before := debug.SetGCPercent(math.MaxInt32) // nothing else collects
	t.Cleanup(func() { debug.SetGCPercent(before) })
	synctest.Test(t, func(t *testing.T) {
		ready, started := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- New(ready, nil, Collector{steady: 1000}, quiet()).Run(ctx, func() { close(started) }) }()
		<-started
		var s debug.GCStats
		debug.ReadGCStats(&s)
		idle := s.NumGC
		time.Sleep(time.Hour)
		if debug.ReadGCStats(&s); s.NumGC != idle {
			t.Error("memory was given back before the start was over")
		}
		close(ready)
		time.Sleep(settle)
		synctest.Wait()
		if debug.ReadGCStats(&s); s.NumGC == idle {
			t.Error("nothing was given back after the start")
		}
		if got := debug.SetGCPercent(math.MaxInt32); got != 1000 {
			t.Errorf("percentage %d after the start, want the steady one", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestManyRequestsAfterTheStartAreWork has them come before the start's memory
// has gone back.
func TestManyRequestsAfterTheStartAreWork(t *testing.T) {
	before := debug.SetGCPercent(math.MaxInt32)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	synctest.Test(t, func(t *testing.T) {
		ready, bursts := make(chan struct{}), make(chan struct{})
		close(ready)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- New(ready, bursts, Collector{steady: 1000}, quiet()).Run(ctx, func() {}) }()
		var s debug.GCStats
		debug.ReadGCStats(&s)
		idle := s.NumGC
		for range 3 {
			time.Sleep(settle - time.Second)
			bursts <- struct{}{}
		}
		synctest.Wait()
		if got := debug.SetGCPercent(math.MaxInt32); got != 1000 {
			t.Errorf("percentage %d with many requests, want the steady one", got)
		}
		if debug.ReadGCStats(&s); s.NumGC != idle {
			t.Error("memory was looked for while there was work")
		}
		time.Sleep(settle)
		synctest.Wait()
		if debug.ReadGCStats(&s); s.NumGC == idle {
			t.Error("nothing was given back after the work")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
