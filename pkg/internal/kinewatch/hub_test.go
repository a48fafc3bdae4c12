package kinewatch

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
)

// table is events that have been written, the n-th at revision n.
type table []*server.Event

func (t table) History(_ context.Context, r Range, from, to int64) (events []*server.Event, position int64, err error) {
	for _, e := range t[from:to] {
		if r.Contains(e.KV.Key) {
			events = append(events, e)
		}
	}
	return events, to, nil
}

func (table) Compacted() int64             { return 0 }
func (table) Settle(context.Context) error { return nil }

func written(n int) table {
	t := make(table, n)
	for i := range t {
		t[i] = &server.Event{Create: true, KV: &server.KeyValue{Key: fmt.Sprintf("/%d/%d", i%2, i), ModRevision: int64(i + 1)}}
	}
	return t
}

func newTestHub(t *testing.T, source Source) *Hub {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return NewHub(t.Context(), source, 0, logrus.NewEntry(log))
}

// collect begins to take n events of a range.
func collect(t *testing.T, h *Hub, r Range, from int64, n int) (revisions func() []int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	watch := h.Subscribe(r, from)
	result := make(chan []int64, 1)
	go func() {
		defer cancel()
		var got []int64
		_ = watch(ctx, func(events []*server.Event) error {
			for _, e := range events {
				got = append(got, e.KV.ModRevision)
			}
			if len(got) >= n {
				cancel()
			}
			return nil
		})
		result <- got
	}()
	return func() []int64 { return <-result }
}

// TestWatchersReadWhatWasSkipped has watchers that began before and after a gap
// in what was published.
func TestWatchersReadWhatWasSkipped(t *testing.T) {
	all := written(40)
	h := newTestHub(t, all)
	odd := Range{"/1/", "/10"}
	early := collect(t, h, odd, 1, 20)
	h.Publish(10, all[:10])
	h.Skip(30)
	late := collect(t, h, odd, 21, 10)
	h.Publish(40, all[30:])
	for name, w := range map[string]struct {
		got   []int64
		first int64
	}{"early": {early(), 2}, "late": {late(), 22}} {
		want := w.first
		for _, revision := range w.got {
			if revision != want {
				t.Fatalf("%s: revision %d, want %d", name, revision, want)
			}
			want += 2
		}
		if want != 42 {
			t.Errorf("%s: ends before revision %d", name, want)
		}
	}
}

func TestAWatcherThatDoesNotTakeHoldsLittle(t *testing.T) {
	all := written(4 * MaxPending)
	h := newTestHub(t, all)
	w, _ := h.subscribe(Range{"/", "0"}, 0)
	for i := range all {
		h.Publish(int64(i+1), all[i:i+1])
		if len(w.pending) > MaxPending {
			t.Fatalf("%d events are kept in memory", len(w.pending))
		}
	}
}

func TestWhoAwaitsARevisionHearsOfIt(t *testing.T) {
	h := newTestHub(t, written(0))
	ended := make(chan error, 1)
	go func() { ended <- h.Await(t.Context(), 3) }()
	h.Publish(1, nil)
	h.Publish(2, nil)
	select {
	case err := <-ended:
		t.Fatalf("revision 3 is there before it was published: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	h.Skip(4)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Await(ctx, 5); err == nil {
		t.Error("waiting does not end with its context")
	}
}
