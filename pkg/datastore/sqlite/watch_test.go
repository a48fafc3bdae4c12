package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

const patience = 20 * time.Second

// next waits for a response of a watch.
func next(t *testing.T, w clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case r, ok := <-w:
		if !ok {
			t.Fatal("the watch has ended")
		}
		return r
	case <-time.After(patience):
		t.Fatal("the watch says nothing")
	}
	return clientv3.WatchResponse{}
}

func describe(e *clientv3.Event) string {
	s := fmt.Sprintf("%s %s=%s@%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
	if e.PrevKv != nil {
		s += fmt.Sprintf(" was %s@%d", e.PrevKv.Value, e.PrevKv.ModRevision)
	}
	return s
}

func TestAWatchTellsOfOldAndNewEvents(t *testing.T) { eachClient(t, aWatchTellsOfOldAndNewEvents) }

func aWatchTellsOfOldAndNewEvents(t *testing.T, d *instance) {
	first := mustCreate(t, d.Client, "/w/a", "1")
	second := mustUpdate(t, d.Client, "/w/a", "2", first)
	mustCreate(t, d.Client, "/x/other", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := d.Watch(ctx, "/w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(first))
	var got []string
	collect := func(n int) {
		for len(got) < n {
			for _, e := range next(t, w).Events {
				got = append(got, describe(e))
			}
		}
	}
	collect(2)
	third := mustRemove(t, d.Client, "/w/a", second)
	fourth := mustCreate(t, d.Client, "/w/a", "3")
	collect(4)
	want := []string{
		fmt.Sprintf("PUT /w/a=1@%d", first),
		fmt.Sprintf("PUT /w/a=2@%d was 1@%d", second, first),
		fmt.Sprintf("DELETE /w/a=@%d was 2@%d", third, second),
		fmt.Sprintf("PUT /w/a=3@%d", fourth),
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWatchersUnderLoadMissNothingAndRepeatNothing(t *testing.T) {
	eachClient(t, watchersUnderLoadMissNothingAndRepeatNothing)
}

func watchersUnderLoadMissNothingAndRepeatNothing(t *testing.T, d *instance) {
	const writers, writes, watchers = 4, 300, 6
	type result struct {
		revisions []int64
		err       error
	}
	results := make(chan result, watchers)
	watch := func(from int64) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var r result
		for m := range d.Watch(ctx, "/load/", clientv3.WithPrefix(), clientv3.WithRev(from)) {
			for _, e := range m.Events {
				r.revisions = append(r.revisions, e.Kv.ModRevision)
			}
			if len(r.revisions) >= writers*writes {
				break
			}
		}
		r.err = ctx.Err()
		results <- r
	}
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range writes {
				if _, err := create(t.Context(), d.Client, fmt.Sprintf("/load/%d/%d", w, i), strings.Repeat("x", 500)); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range watchers {
		go watch(1)
		<-time.After(5 * time.Millisecond) // they join at different points of the load
	}
	for range writers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	for range watchers {
		r := <-results
		if r.err != nil || len(r.revisions) != writers*writes {
			t.Fatalf("a watcher saw %d of %d events: %v", len(r.revisions), writers*writes, r.err)
		}
		for i := 1; i < len(r.revisions); i++ {
			if r.revisions[i] != r.revisions[i-1]+1 {
				t.Fatalf("revision %d follows %d", r.revisions[i], r.revisions[i-1])
			}
		}
	}
}

func TestAWatcherThatDoesNotReadLosesNothing(t *testing.T) {
	b := newTestBackend(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := b.Watch(ctx, "/slow/", "/slow0", 0)
	const events = 3 * kinewatch.MaxPending
	for i := range events {
		if _, err := b.Create(t.Context(), fmt.Sprintf("/slow/%d", i), []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	var last, n int64
	for n < events {
		select {
		case batch := <-w.Events:
			for _, e := range batch {
				if last != 0 && e.KV.ModRevision != last+1 {
					t.Fatalf("revision %d follows %d", e.KV.ModRevision, last)
				}
				last = e.KV.ModRevision
				n++
			}
		case <-time.After(patience):
			t.Fatalf("%d of %d events arrived", n, events)
		}
	}
}

func TestAWatcherThatACompactionOvertakesIsTold(t *testing.T) {
	b := newTestBackend(t)
	w := b.Watch(t.Context(), "/slow/", "/slow0", 0)
	var last int64
	for i := range 2 * kinewatch.MaxPending {
		var err error
		if last, err = b.Create(t.Context(), fmt.Sprintf("/slow/%d", i), []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for range w.Events {
	}
	select {
	case err := <-w.Errorc:
		if !errors.Is(err, server.ErrCompacted) {
			t.Errorf("the watch ended with %v", err)
		}
	default:
		t.Error("the watch ended without a reason although events were lost")
	}
}

func TestAWatchFromACompactedRevisionIsRefused(t *testing.T) {
	eachClient(t, aWatchFromACompactedRevisionIsRefused)
}

func aWatchFromACompactedRevisionIsRefused(t *testing.T, d *instance) {
	first := mustCreate(t, d.Client, "/a", "1")
	second := mustUpdate(t, d.Client, "/a", "2", first)
	third := mustUpdate(t, d.Client, "/a", "3", second)
	if _, err := d.Compact(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	r, ok := <-d.Watch(t.Context(), "/a", clientv3.WithRev(first))
	if !ok || !errors.Is(r.Err(), rpctypes.ErrCompacted) || r.CompactRevision != second {
		t.Errorf("response %+v, error %v", r, r.Err())
	}
	w := d.Watch(t.Context(), "/a", clientv3.WithRev(second+1))
	if e := next(t, w).Events; len(e) != 1 || e[0].Kv.ModRevision != third {
		t.Errorf("events after the compacted revision: %v", e)
	}
}

func TestAProgressRequestIsAnsweredAfterTheEvents(t *testing.T) {
	d := start(t, t.TempDir())
	w := d.Watch(t.Context(), "/a/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(t, w)
	for i := range 50 {
		revision := mustCreate(t, d.Client, fmt.Sprintf("/a/%d", i), "")
		if i%2 == 1 {
			revision = mustCreate(t, d.Client, fmt.Sprintf("/b/%d", i), "")
		}
		began := time.Now()
		if err := d.RequestProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := false
		for {
			r := next(t, w)
			if r.IsProgressNotify() {
				if r.Header.Revision != revision {
					t.Fatalf("progress to %d, want %d", r.Header.Revision, revision)
				}
				break
			}
			seen = seen || len(r.Events) > 0
		}
		if !seen {
			t.Fatalf("progress to %d came before the event", revision)
		}
		if took := time.Since(began); i > 0 && took > time.Second {
			t.Errorf("progress took %s", took)
		}
	}
}

func TestWatchersAreToldOfProgressFromTimeToTime(t *testing.T) {
	dir := t.TempDir()
	d := startWith(t, Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock", notify: 50 * time.Millisecond})
	asked := d.Watch(t.Context(), "/a", clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	next(t, asked)
	revision := mustCreate(t, d.Client, "/b", "")
	if r := next(t, asked); !r.IsProgressNotify() || r.Header.Revision != revision {
		t.Errorf("response %+v, want progress to %d", r, revision)
	}
	select {
	case r := <-asked:
		t.Errorf("told %+v although nothing has happened since", r)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestAWatchCanLeaveOutKindsOfEvents(t *testing.T) {
	d := start(t, t.TempDir())
	puts := d.Watch(t.Context(), "/a", clientv3.WithFilterDelete())
	deletes := d.Watch(t.Context(), "/a", clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	next(t, deletes)
	rev := mustCreate(t, d.Client, "/a", "1")
	mustRemove(t, d.Client, "/a", rev)
	if e := next(t, puts).Events[0]; e.Type != clientv3.EventTypePut {
		t.Errorf("first event is %v", e)
	}
	if e := next(t, deletes).Events[0]; e.Type != clientv3.EventTypeDelete || e.PrevKv != nil {
		t.Errorf("first event is %v", e)
	}
}

func TestACancelledWatchEndsAndOthersGoOn(t *testing.T) {
	d := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := d.Watch(ctx, "/a", clientv3.WithCreatedNotify())
	other := d.Watch(t.Context(), "/a", clientv3.WithCreatedNotify())
	next(t, ended)
	next(t, other)
	cancel()
	for range ended {
	}
	mustCreate(t, d.Client, "/a", "1")
	if len(next(t, other).Events) != 1 {
		t.Error("the other watch has no event")
	}
}
