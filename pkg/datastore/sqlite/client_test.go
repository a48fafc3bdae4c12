package sqlite

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// TestCallsAreAnsweredAsRequestsAre sends the same to two datastores, to one
// over its socket and to the other by calls, and compares the answers.
func TestCallsAreAnsweredAsRequestsAre(t *testing.T) {
	socket, calls := start(t, t.TempDir()), startCalls(t, t.TempDir())
	ctx := t.Context()
	var base int64 // the revision before the first write
	// at is a revision of a step, 0 stays what it is.
	at := func(step int64) int64 {
		if step > 0 {
			step += base
		}
		return step
	}
	put := func(key, value string, revision int64, opts kubernetes.PutOptions) func(c kubernetes.Interface) string {
		return func(c kubernetes.Interface) string {
			r, err := c.OptimisticPut(ctx, key, []byte(value), at(revision), opts)
			return fmt.Sprint(r.Succeeded, r.Revision, show(r.KV), err)
		}
	}
	remove := func(key string, revision int64, opts kubernetes.DeleteOptions) func(c kubernetes.Interface) string {
		return func(c kubernetes.Interface) string {
			r, err := c.OptimisticDelete(ctx, key, at(revision), opts)
			return fmt.Sprint(r.Succeeded, r.Revision, show(r.KV), err)
		}
	}
	get := func(key string, revision int64) func(c kubernetes.Interface) string {
		return func(c kubernetes.Interface) string {
			r, err := c.Get(ctx, key, kubernetes.GetOptions{Revision: at(revision)})
			return fmt.Sprint(r.Revision, show(r.KV), err)
		}
	}
	list := func(prefix string, opts kubernetes.ListOptions) func(c kubernetes.Interface) string {
		return func(c kubernetes.Interface) string {
			opts := opts
			opts.Revision = at(opts.Revision)
			r, err := c.List(ctx, prefix, opts)
			return fmt.Sprint(r.Count, r.Revision, show(r.Kvs...), err)
		}
	}
	now, err := calls.kube.Get(ctx, "/", kubernetes.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	base = now.Revision
	putBack, deleteBack := kubernetes.PutOptions{GetOnFailure: true}, kubernetes.DeleteOptions{GetOnFailure: true}
	steps := []struct {
		name string
		do   func(c kubernetes.Interface) string
	}{
		{"create", put("/a/1", "one", 0, kubernetes.PutOptions{})},
		{"create with a lease", put("/a/2", "two", 0, kubernetes.PutOptions{LeaseID: 3600})},
		{"create what exists", put("/a/1", "x", 0, kubernetes.PutOptions{})},
		{"create what exists and get it", put("/a/1", "x", 0, putBack)},
		{"update", put("/a/1", "one b", 1, putBack)},
		{"update an old revision and get the new one", put("/a/1", "x", 1, putBack)},
		{"update what is not there", put("/a/none", "x", 1, putBack)},
		{"delete an old revision and get the new one", remove("/a/1", 1, deleteBack)},
		{"delete what is not there", remove("/a/none", 1, deleteBack)},
		{"create another", put("/a/3", "three", 0, putBack)},
		{"delete", remove("/a/2", 2, deleteBack)},
		{"get", get("/a/1", 0)},
		{"get what was deleted", get("/a/2", 0)},
		{"get what was there", get("/a/2", 3)},
		{"get from the future", get("/a/2", 99)},
		{"list", list("/a/", kubernetes.ListOptions{})},
		{"list a page", list("/a/", kubernetes.ListOptions{Limit: 1})},
		{"list a page that holds all", list("/a/", kubernetes.ListOptions{Limit: 2})},
		{"list the next page", list("/a/", kubernetes.ListOptions{Limit: 1, Continue: "/a/1\x00"})},
		{"list what was there", list("/a/", kubernetes.ListOptions{Revision: 3})},
		{"list a page of what was there", list("/a/", kubernetes.ListOptions{Revision: 3, Limit: 1})},
		{"list nothing", list("/none/", kubernetes.ListOptions{})},
		{"list from the future", list("/a/", kubernetes.ListOptions{Revision: 99})},
		{"count", func(c kubernetes.Interface) string { return fmt.Sprint(c.Count(ctx, "/a/", kubernetes.CountOptions{})) }},
		{"compact", func(c kubernetes.Interface) string {
			client := calls.Client
			if c == socket.kube {
				client = socket.Client
			}
			_, err := client.Compact(ctx, base+4)
			return fmt.Sprint(err)
		}},
		{"get what was compacted", get("/a/2", 2)},
		{"list what was compacted", list("/a/", kubernetes.ListOptions{Revision: 2})},
		{"a context that has ended", func(c kubernetes.Interface) string {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := c.List(ended, "/a/", kubernetes.ListOptions{})
			return fmt.Sprint(err)
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			want := step.do(socket.kube)
			if got := step.do(calls.kube); got != want {
				t.Errorf("by a call:         %s\non the socket: %s", got, want)
			}
		})
	}
}

func show(kvs ...*mvccpb.KeyValue) string {
	var s strings.Builder
	for _, kv := range kvs {
		if kv != nil {
			fmt.Fprintf(&s, "[%s=%s %d-%d lease %d]", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Lease)
		}
	}
	return s.String()
}

func TestAValueThatIsTooLargeIsRefusedByCallsToo(t *testing.T) {
	d := startCalls(t, t.TempDir())
	_, err := d.kube.OptimisticPut(t.Context(), "/huge", make([]byte, 3<<20), 0, kubernetes.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("3 MiB: %v", err)
	}
}

func TestProgressByCallsComesAfterTheEvents(t *testing.T) {
	d := startCalls(t, t.TempDir())
	w, other := d.Watch(t.Context(), "/a/", clientv3.WithPrefix()), d.Watch(t.Context(), "/other")
	for i := range 50 {
		revision := mustCreate(t, d.Client, fmt.Sprintf("/a/%d", i), "")
		if i%2 == 1 {
			revision = mustCreate(t, d.Client, fmt.Sprintf("/b/%d", i), "")
		}
		if err := d.RequestProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := next(t, w); len(r.Events) != 1 {
			t.Fatalf("%+v, want the event", r)
		}
		for _, w := range []clientv3.WatchChan{w, other} {
			if r := next(t, w); !r.IsProgressNotify() || r.Header.Revision != revision {
				t.Fatalf("%+v, want progress to %d", r, revision)
			}
		}
	}
}

func TestOnlyWhoAsksIsToldOfProgressFromTimeToTime(t *testing.T) {
	dir := t.TempDir()
	d := startWith(t, Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock", notify: 50 * time.Millisecond})
	d.Client.Close()
	d.byCalls(t)
	asked, silent := d.Watch(d.store.WithProgressNotify(t.Context()), "/a"), d.Watch(t.Context(), "/a")
	revision := mustCreate(t, d.Client, "/b", "")
	if r := next(t, asked); !r.IsProgressNotify() || r.Header.Revision != revision {
		t.Errorf("response %+v, want progress to %d", r, revision)
	}
	select {
	case r := <-asked:
		t.Errorf("told %+v although nothing has happened since", r)
	case r := <-silent:
		t.Errorf("told %+v without having asked", r)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestAWatchByCallsEnds(t *testing.T) {
	for name, end := range map[string]func(d *instance, cancel func()){
		"with its context": func(_ *instance, cancel func()) { cancel() },
		"with its client":  func(d *instance, _ func()) { d.Client.Close() },
		"with its context, in the middle of an answer": func(d *instance, cancel func()) {
			mustCreate(t, d.Client, "/a", "1")
			cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startCalls(t, t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := d.Watch(ctx, "/a")
			end(d, cancel)
			select {
			case r, open := <-ended:
				if open && len(r.Events) == 0 {
					t.Errorf("response %+v", r)
				}
			case <-time.After(patience):
				t.Error("the watch goes on")
			}
		})
	}
}

// Whoever watches would start again at once, and again, while the server stops.
func TestAWatchByCallsStaysSilentWhenTheDatastoreHasEnded(t *testing.T) {
	d := startCalls(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := d.Client
	d.Client = clientv3.NewCtxClient(ctx) // for stop to close
	w := client.Watch(ctx, "/a")
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case r, open := <-w:
		t.Errorf("response %+v, open %v", r, open)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := client.Get(ctx, "/a"); err == nil {
		t.Error("a request is answered")
	}
	cancel()
	if _, open := <-w; open {
		t.Error("the watch goes on after its context")
	}
}

func TestThereIsNoClientBeforeTheDatastoreRuns(t *testing.T) {
	if _, err := New(Config{}, quiet()).Client(); err == nil {
		t.Error("there is")
	}
}
