package memory

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	c := Collector{steady: 100, rest: 25}
	for _, tc := range []struct {
		name    string
		percent int
		since   time.Duration
		want    int
	}{
		{"a long time is rest", 100, 2 * time.Minute, 25},
		{"rest goes on", 25, 2 * time.Minute, 25},
		{"a short time is load", 25, time.Second, 100},
		{"load goes on", 100, time.Second, 100},
		{"between the two nothing changes", 100, 30 * time.Second, 100},
		{"nor at rest", 25, 30 * time.Second, 25},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := c.pace(tc.percent, tc.since); got != tc.want {
				t.Errorf("%d %%, want %d %%", got, tc.want)
			}
		})
	}
}

// TestTheCollectorKeepsPace has two collections follow each other, as under
// load.
func TestTheCollectorKeepsPace(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Collector{steady: 90, rest: 30}.keepPace(ctx, nil)
	}()
	await(t, 30)
	for deadline := time.Now().Add(time.Minute); percentage() != 90; runtime.Gosched() {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("percentage %d under load, want 90", percentage())
		}
	}
	cancel()
	<-ended
}

func TestABurstIsWorkBeforeTheFirstCollection(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	ctx, cancel := context.WithCancel(t.Context())
	ended, bursts := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		Collector{steady: 90, rest: 30}.keepPace(ctx, bursts)
	}()
	await(t, 30)
	bursts <- struct{}{}
	await(t, 90)
	cancel()
	<-ended
}

func await(t *testing.T, percent uint64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); percentage() != percent; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("percentage %d, want %d", percentage(), percent)
		}
	}
}

func percentage() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
