package datastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// patience is for what has to happen on a machine that does other work, too.
const patience = 2 * time.Minute

// put writes a key that has the revision, 0 for none, and must succeed.
func put(t *testing.T, c *kubernetes.Client, key, value string, revision int64, lease ...clientv3.LeaseID) int64 {
	t.Helper()
	o := kubernetes.PutOptions{GetOnFailure: revision != 0} // as the API server
	if len(lease) > 0 {
		o.LeaseID = lease[0]
	}
	r, err := c.Kubernetes.OptimisticPut(t.Context(), key, []byte(value), revision, o)
	if err != nil || !r.Succeeded {
		t.Fatalf("write %s at %d: %+v %v", key, revision, r, err)
	}
	return r.Revision
}

func remove(t *testing.T, c *kubernetes.Client, key string, revision int64) int64 {
	t.Helper()
	r, err := c.Kubernetes.OptimisticDelete(t.Context(), key, revision, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil || !r.Succeeded {
		t.Fatalf("delete %s at %d: %+v %v", key, revision, r, err)
	}
	return r.Revision
}

// get gives value and revision of a key, "" and 0 when it is not there.
func get(t *testing.T, c *kubernetes.Client, key string, at int64) (string, int64) {
	t.Helper()
	r, err := c.Kubernetes.Get(t.Context(), key, kubernetes.GetOptions{Revision: at})
	if err != nil {
		t.Fatalf("get %s at %d: %v", key, at, err)
	}
	if r.KV == nil {
		return "", 0
	}
	return string(r.KV.Value), r.KV.ModRevision
}

func now(t *testing.T, c *kubernetes.Client, key string) (*mvccpb.KeyValue, error) {
	r, err := c.Kubernetes.Get(t.Context(), key, kubernetes.GetOptions{})
	return r.KV, err
}

// watch begins where get at the same moment would end.
func watch(t *testing.T, c *kubernetes.Client, key string, o ...clientv3.OpOption) clientv3.WatchChan {
	t.Helper()
	return c.Watch(clientv3.WithRequireLeader(t.Context()), key, append([]clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithPrevKV()}, o...)...)
}

func next(t *testing.T, w clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case r, open := <-w:
		if !open {
			t.Fatal("the watch has ended")
		}
		return r
	case <-time.After(patience):
		t.Fatal("the watch says nothing")
	}
	return clientv3.WatchResponse{}
}

// events takes n of a watch.
func events(t *testing.T, w clientv3.WatchChan, n int) (all []*clientv3.Event) {
	t.Helper()
	for len(all) < n {
		r := next(t, w)
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Events...)
	}
	return all
}

// describe is an event on a line. The revisions at which the previous value
// was made are left out: nobody asks for them.
func describe(e *clientv3.Event) string {
	s := fmt.Sprintf("%s %s=%q", e.Type, e.Kv.Key, e.Kv.Value)
	if e.PrevKv != nil {
		s += fmt.Sprintf(" was %q", e.PrevKv.Value)
	}
	return s
}

func TestWritesNameTheRevisionThatTheyReplace(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		first := put(t, c, "/w/a", "1", 0)
		second := put(t, c, "/w/a", "2", first)
		if second <= first {
			t.Errorf("revision %d follows %d", second, first)
		}
		got, err := now(t, c, "/w/a")
		if err != nil {
			t.Fatal(err)
		}
		for _, stale := range []int64{0, first, second + 1} {
			r, err := c.Kubernetes.OptimisticPut(t.Context(), "/w/a", []byte("stale"), stale, kubernetes.PutOptions{GetOnFailure: stale != 0})
			if err == nil && stale == 0 {
				r.KV = got // a create does not ask
			}
			if err != nil || r.Succeeded || r.KV == nil || string(r.KV.Value) != "2" || r.KV.ModRevision != second || r.KV.CreateRevision != first {
				t.Errorf("write at %d over %d: %+v %v", stale, second, r, err)
			}
		}
		r, err := c.Kubernetes.OptimisticDelete(t.Context(), "/w/a", first, kubernetes.DeleteOptions{GetOnFailure: true})
		if err != nil || r.Succeeded || r.KV == nil || r.KV.ModRevision != second {
			t.Errorf("delete at %d over %d: %+v %v", first, second, r, err)
		}
		gone := remove(t, c, "/w/a", second)
		if value, at := get(t, c, "/w/a", 0); at != 0 {
			t.Errorf("after its end the key is %q at %d", value, at)
		}
		if value, _ := get(t, c, "/w/a", second); value != "2" {
			t.Errorf("before its end the key was %q", value)
		}
		again := put(t, c, "/w/a", "3", 0)
		if again <= gone {
			t.Errorf("revision %d follows %d", again, gone)
		}
		m, err := c.Kubernetes.Get(t.Context(), "/w/a", kubernetes.GetOptions{})
		if err != nil || m.KV.CreateRevision != again {
			t.Errorf("a key that was made again: %+v %v", m.KV, err)
		}
		if _, err := c.Kubernetes.Get(t.Context(), "/w/a", kubernetes.GetOptions{Revision: again + 1000}); !errors.Is(err, rpctypes.ErrFutureRev) {
			t.Errorf("a revision that is still to come: %v", err)
		}
	})
}

func TestWritersAtOnceLoseNothing(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		const writers, each = 8, 20
		w := watch(t, c, "/counter", clientv3.WithRev(put(t, c, "/counter", "0", 0)+1))
		var wg sync.WaitGroup
		var mu sync.Mutex
		revisions := map[int64]bool{}
		for range writers {
			wg.Go(func() {
				for done := 0; done < each; {
					r, err := increase(t.Context(), c)
					if err != nil {
						t.Error(err)
						return
					}
					if r.Succeeded {
						done++
						mu.Lock()
						if revisions[r.Revision] {
							t.Errorf("revision %d was given twice", r.Revision)
						}
						revisions[r.Revision] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		if value, _ := get(t, c, "/counter", 0); value != fmt.Sprint(writers*each) {
			t.Errorf("counted to %s, want %d", value, writers*each)
		}
		for i, e := range events(t, w, writers*each) {
			if want := fmt.Sprintf("PUT /counter=%q was %q", fmt.Sprint(i+1), fmt.Sprint(i)); describe(e) != want || !revisions[e.Kv.ModRevision] {
				t.Fatalf("event %d is %s at %d, want %s", i, describe(e), e.Kv.ModRevision, want)
			}
		}
	})
}

func increase(ctx context.Context, c *kubernetes.Client) (kubernetes.PutResponse, error) {
	r, err := c.Kubernetes.Get(ctx, "/counter", kubernetes.GetOptions{})
	if err != nil {
		return kubernetes.PutResponse{}, err
	}
	var n int
	if _, err := fmt.Sscan(string(r.KV.Value), &n); err != nil {
		return kubernetes.PutResponse{}, err
	}
	return c.Kubernetes.OptimisticPut(ctx, "/counter", fmt.Append(nil, n+1), r.KV.ModRevision, kubernetes.PutOptions{GetOnFailure: true})
}

func TestAListOfSeveralPagesIsOfOneRevision(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		const keys, page = 250, 40
		for i := range keys {
			put(t, c, fmt.Sprintf("/l/%04d", i), "old", 0)
		}
		put(t, c, "/m/other", "x", 0)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { churn(t, c, stop) })
		var got []string
		o := kubernetes.ListOptions{Limit: page}
		var counted []int64
		for {
			r, err := c.Kubernetes.List(t.Context(), "/l/", o)
			if err != nil {
				t.Fatal(err)
			}
			if o.Revision == 0 {
				o.Revision = r.Revision
			}
			counted = append(counted, r.Count+int64(len(got)))
			for _, kv := range r.Kvs {
				got = append(got, fmt.Sprintf("%s=%s@%d", kv.Key, kv.Value, kv.ModRevision))
				o.Continue = string(kv.Key) + "\x00"
			}
			if r.Count <= int64(len(r.Kvs)) {
				break
			}
		}
		close(stop)
		wg.Wait()
		r, err := c.Kubernetes.List(t.Context(), "/l/", kubernetes.ListOptions{Revision: o.Revision})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, kv := range r.Kvs {
			want = append(want, fmt.Sprintf("%s=%s@%d", kv.Key, kv.Value, kv.ModRevision))
		}
		if !slices.Equal(got, want) || len(got) < keys {
			t.Errorf("pages of revision %d have %d keys, the list of it %d:\n%s\n%s", o.Revision, len(got), len(want), got, want)
		}
		for i, n := range counted {
			if n != int64(len(want)) {
				t.Errorf("page %d counts %d keys, there are %d", i, n, len(want))
			}
		}
	})
}

// churn adds keys among those that are being listed, and takes them away.
func churn(t *testing.T, c *kubernetes.Client, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		key := fmt.Sprintf("/l/%04d-new", i%250)
		r, err := c.Kubernetes.OptimisticPut(t.Context(), key, []byte("new"), 0, kubernetes.PutOptions{})
		if err == nil && r.Succeeded {
			_, err = c.Kubernetes.OptimisticDelete(t.Context(), key, r.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

func TestAWatchFromARevisionHasEverythingInOrder(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		before := put(t, c, "/e/a", "1", 0)
		revision := put(t, c, "/e/a", "2", before)
		put(t, c, "/other", "x", 0)
		b := put(t, c, "/e/b", "b", 0)
		late := watch(t, c, "/e/", clientv3.WithRev(revision))
		now := watch(t, c, "/e/", clientv3.WithRev(b+1))
		remove(t, c, "/e/a", revision)
		put(t, c, "/e/a", "3", 0)
		want := []string{`PUT /e/a="2" was "1"`, `PUT /e/b="b"`, `DELETE /e/a="" was "2"`, `PUT /e/a="3"`}
		for what, w := range map[string]clientv3.WatchChan{"of what was": late, "of what comes": now} {
			want := want
			if w == now {
				want = want[2:]
			}
			last := int64(0)
			for i, e := range events(t, w, len(want)) {
				if describe(e) != want[i] || e.Kv.ModRevision <= last {
					t.Errorf("event %d of the watch %s is %s at %d, want %s after %d", i, what, describe(e), e.Kv.ModRevision, want[i], last)
				}
				last = e.Kv.ModRevision
			}
		}
	})
}

func TestProgressComesAfterTheEventsBeforeIt(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		w := watch(t, c, "/p/", clientv3.WithRev(put(t, c, "/p/start", "", 0)+1), clientv3.WithProgressNotify())
		for i := range 5 {
			revision := put(t, c, fmt.Sprintf("/p/%d", i), "", 0)
			if i%2 == 1 { // one that this watch is not told of
				revision = put(t, c, fmt.Sprintf("/q/%d", i), "", 0)
			}
			seen := 0
			for at := int64(0); at < revision || seen == 0; {
				if err := c.RequestProgress(clientv3.WithRequireLeader(t.Context())); err != nil {
					t.Fatal(err)
				}
				r := next(t, w)
				seen += len(r.Events)
				if r.IsProgressNotify() {
					at = r.Header.Revision
				} else if len(r.Events) > 0 && i%2 == 0 {
					at = r.Header.Revision
				}
				if at >= revision && seen == 0 {
					t.Fatalf("progress to %d came before the event", at)
				}
			}
		}
	})
}

func TestACompactionForgetsWhatWasReplaced(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		kept := put(t, c, "/c/kept", "only", 0)
		first := put(t, c, "/c/a", "1", 0)
		second := put(t, c, "/c/a", "2", first)
		gone := put(t, c, "/c/gone", "x", 0)
		goneAt := remove(t, c, "/c/gone", gone)
		third := put(t, c, "/c/a", "3", second)
		newest := put(t, c, "/c/last", "x", 0)
		if _, err := c.Compact(t.Context(), third, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		for _, revision := range []int64{first, second, goneAt} {
			if _, err := c.Kubernetes.Get(t.Context(), "/c/a", kubernetes.GetOptions{Revision: revision}); !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("get at %d after a compaction to %d: %v", revision, third, err)
			}
			if _, err := c.Kubernetes.List(t.Context(), "/c/", kubernetes.ListOptions{Revision: revision}); !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("list at %d after a compaction to %d: %v", revision, third, err)
			}
		}
		r := next(t, watch(t, c, "/c/", clientv3.WithRev(first)))
		if !errors.Is(r.Err(), rpctypes.ErrCompacted) || r.CompactRevision != third {
			t.Errorf("a watch from %d: %+v", first, r)
		}
		for key, want := range map[string]string{"/c/kept": fmt.Sprint("only@", kept), "/c/a": fmt.Sprint("3@", third), "/c/gone": "@0", "/c/last": fmt.Sprint("x@", newest)} {
			if value, at := get(t, c, key, 0); fmt.Sprint(value, "@", at) != want && value+"@"+fmt.Sprint(at) != want {
				t.Errorf("%s is %s at %d, want %s", key, value, at, want)
			}
		}
		if value, _ := get(t, c, "/c/a", third); value != "3" {
			t.Errorf("at the compacted revision: %q", value)
		}
		if e := events(t, watch(t, c, "/c/", clientv3.WithRev(newest)), 1); describe(e[0]) != `PUT /c/last="x"` {
			t.Errorf("a watch from %d begins with %s", newest, describe(e[0]))
		}
		if _, err := c.Compact(t.Context(), second); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("a compaction to an older revision: %v", err)
		}
	})
}

func TestOneOfSeveralServersCompacts(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		// As k8s.io/apiserver/pkg/storage/etcd3/compact.go has it.
		claim := func(version int64, value string) *clientv3.TxnResponse {
			r, err := c.KV.Txn(t.Context()).If(clientv3.Compare(clientv3.Version("compact_rev_key"), "=", version)).
				Then(clientv3.OpPut("compact_rev_key", value)).Else(clientv3.OpGet("compact_rev_key")).Commit()
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if !claim(0, "10").Succeeded || !claim(1, "20").Succeeded {
			t.Fatal("the first of the servers may not")
		}
		r := claim(1, "30")
		if r.Succeeded {
			t.Fatal("two servers may")
		}
		if kv := r.Responses[0].GetResponseRange().Kvs[0]; kv.Version != 2 || string(kv.Value) != "20" {
			t.Errorf("the second is told %v", kv)
		}
	})
}

func TestKeysOfALeaseEndWithIt(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		short, err := c.Grant(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		long, err := c.Grant(t.Context(), 3600)
		if err != nil {
			t.Fatal(err)
		}
		w := watch(t, c, "/t/", clientv3.WithRev(put(t, c, "/start", "", 0)+1))
		began := time.Now()
		put(t, c, "/t/short", "1", 0, short.ID)
		put(t, c, "/t/renewed", "2", put(t, c, "/t/renewed", "1", 0, short.ID), long.ID)
		put(t, c, "/t/freed", "2", put(t, c, "/t/freed", "1", 0, short.ID))
		all := events(t, w, 6)
		if end := all[5]; describe(end) != `DELETE /t/short="" was "1"` {
			t.Errorf("the end of the lease is %s", describe(end))
		}
		if lived := time.Since(began); lived < 2*time.Second {
			t.Errorf("a lease of 2 s ended after %s", lived)
		}
		for _, key := range []string{"/t/renewed", "/t/freed"} {
			if value, _ := get(t, c, key, 0); value != "2" {
				t.Errorf("%s is %q after the end of its old lease", key, value)
			}
		}
	})
}

func TestLargeValuesAndManyKeys(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		large := bytes.Repeat([]byte("\x00\xff\x1aé'\\"), 1<<20/8)
		revision := put(t, c, "/large", string(large), 0)
		if value, at := get(t, c, "/large", 0); value != string(large) || at != revision {
			t.Errorf("%d bytes at %d came back of %d at %d", len(value), at, len(large), revision)
		}
		if r, err := c.Kubernetes.OptimisticPut(t.Context(), "/huge", make([]byte, 4<<20), 0, kubernetes.PutOptions{}); err == nil {
			t.Errorf("4 MiB are taken: %+v", r)
		}
		const keys = 1000
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := worker; i < keys; i += 8 {
					r, err := c.Kubernetes.OptimisticPut(t.Context(), fmt.Sprintf("/many/%d", i), fmt.Append(nil, i), 0, kubernetes.PutOptions{})
					if err != nil || !r.Succeeded {
						t.Error(r, err)
						return
					}
				}
			})
		}
		wg.Wait()
		r, err := c.Kubernetes.List(t.Context(), "/many/", kubernetes.ListOptions{})
		if err != nil || len(r.Kvs) != keys || !slices.IsSortedFunc(r.Kvs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }) {
			t.Errorf("%d keys, in order or not, want %d: %v", len(r.Kvs), keys, err)
		}
		if n, err := c.Kubernetes.Count(t.Context(), "/many/1", kubernetes.CountOptions{}); err != nil || n != 111 {
			t.Errorf("%d keys begin with 1, want 111: %v", n, err)
		}
	})
}

func TestNothingIsLostByARestart(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		d := k.open(t)
		newClient, stop := d.start(t)
		c := use(t, newClient)
		first := put(t, c, "/r/a", "1", 0)
		second := put(t, c, "/r/a", "2", first)
		gone := remove(t, c, "/r/b", put(t, c, "/r/b", "x", 0))
		c.Close()
		stop()

		newClient, stop = d.start(t)
		defer stop()
		c = use(t, newClient)
		if value, at := get(t, c, "/r/a", 0); value != "2" || at != second {
			t.Errorf("the key is %q at %d, want 2 at %d", value, at, second)
		}
		if value, _ := get(t, c, "/r/a", first); value != "1" {
			t.Errorf("the key was %q", value)
		}
		if _, at := get(t, c, "/r/b", 0); at != 0 {
			t.Errorf("what was deleted is back at %d", at)
		}
		if after := put(t, c, "/r/c", "x", 0); after <= gone {
			t.Errorf("revision %d follows %d", after, gone)
		}
		if e := events(t, watch(t, c, "/r/", clientv3.WithRev(first)), 5); describe(e[1]) != `PUT /r/a="2" was "1"` || describe(e[3]) != `DELETE /r/b="" was "x"` {
			t.Errorf("the history is %s, %s, ...", describe(e[1]), describe(e[3]))
		}
	})
}
