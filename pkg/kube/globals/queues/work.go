package queues

import (
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// quit ends the goroutine that sets it. A queue has one goroutine that does,
// every half second and for nothing else; it gives back what it holds when it
// ends.
type quit struct{}

// Set implements workqueue.SettableGaugeMetric.
func (quit) Set(float64) { runtime.Goexit() }

// depth falls when a worker takes an item: its work begins.
type depth struct {
	prometheus.Gauge
	work *work
}

// Dec implements workqueue.GaugeMetric.
func (d depth) Dec() {
	d.Gauge.Dec()
	d.work.begin(time.Now())
}

// duration is observed when a worker is done with an item.
type duration struct {
	prometheus.Observer
	work *work
}

// Observe implements workqueue.HistogramMetric.
func (d duration) Observe(seconds float64) {
	d.Observer.Observe(seconds)
	d.work.end(time.Now().Add(-time.Duration(seconds * float64(time.Second))))
}

// works has the work under way by the name of the queue, of which there may be
// several.
type works struct {
	mu     sync.Mutex
	queues map[string]*work
}

func (w *works) of(name string) *work {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queues[name] == nil {
		w.queues[name] = &work{}
	}
	return w.queues[name]
}

func (w *works) all() map[string]*work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.queues)
}

// work holds when the items began that are worked on, in no order; there are as
// many as a controller has busy workers.
type work struct {
	mu    sync.Mutex
	begun []time.Time
}

func (w *work) begin(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = append(w.begun, at)
}

// end forgets the item that began at that time. Queues tell how long the work
// took, by a clock that they read a moment after this package did, so it is the
// one that began closest to it.
func (w *work) end(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	closest := -1
	for i, t := range w.begun {
		if closest < 0 || t.Sub(at).Abs() < w.begun[closest].Sub(at).Abs() {
			closest = i
		}
	}
	if closest >= 0 {
		last := len(w.begun) - 1
		w.begun[closest] = w.begun[last]
		w.begun = w.begun[:last]
	}
}

// age is for how long items have been worked on, together and the longest.
func (w *work) age() (total, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, t := range w.begun {
		age := now.Sub(t)
		total += age
		longest = max(longest, age)
	}
	return total, longest
}
