package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

func TestComparesDecideWhatIsWritten(t *testing.T) { eachClient(t, comparesDecideWhatIsWritten) }

func comparesDecideWhatIsWritten(t *testing.T, d *instance) {
	const key = "/registry/pods/default/a"
	first := mustCreate(t, d.Client, key, "1")
	second := mustUpdate(t, d.Client, key, "2", first)
	if second != first+1 {
		t.Fatalf("revisions %d and %d have a gap", first, second)
	}
	stored := func(r *clientv3.TxnResponse) string {
		kvs := r.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 {
			return ""
		}
		return fmt.Sprintf("%s at %d of %d", kvs[0].Value, kvs[0].ModRevision, kvs[0].CreateRevision)
	}
	now := fmt.Sprintf("2 at %d of %d", second, first)
	tests := []struct {
		name string
		send func() (*clientv3.TxnResponse, error)
		want string
	}{
		{"creating what exists gives what is stored", func() (*clientv3.TxnResponse, error) { return create(t.Context(), d.Client, key, "x") }, now},
		{"updating an old revision gives what is stored", func() (*clientv3.TxnResponse, error) { return update(t.Context(), d.Client, key, "x", first) }, now},
		{"deleting an old revision gives what is stored", func() (*clientv3.TxnResponse, error) { return remove(t.Context(), d.Client, key, first) }, now},
		{"updating what never was gives nothing", func() (*clientv3.TxnResponse, error) {
			return update(t.Context(), d.Client, key+"none", "x", first)
		}, ""},
		{"deleting what never was gives nothing", func() (*clientv3.TxnResponse, error) { return remove(t.Context(), d.Client, key+"none", first) }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := test.send()
			if err != nil {
				t.Fatal(err)
			}
			if r.Succeeded || stored(r) != test.want {
				t.Errorf("succeeded %v with %q, want false with %q", r.Succeeded, stored(r), test.want)
			}
			if r.Header.Revision != second {
				t.Errorf("revision is %d, want %d: nothing was to be written", r.Header.Revision, second)
			}
		})
	}
}

func TestADeletedKeyCanBeCreatedAgain(t *testing.T) { eachClient(t, aDeletedKeyCanBeCreatedAgain) }

func aDeletedKeyCanBeCreatedAgain(t *testing.T, d *instance) {
	first := mustCreate(t, d.Client, "/a", "1")
	gone := mustRemove(t, d.Client, "/a", first)
	if r, err := remove(t.Context(), d.Client, "/a", first); err != nil || r.Succeeded {
		t.Fatalf("deleted twice: %v %v", r, err)
	}
	again := mustCreate(t, d.Client, "/a", "2")
	r, err := d.Get(t.Context(), "/a")
	if err != nil || len(r.Kvs) != 1 {
		t.Fatalf("get: %v %v", r, err)
	}
	if kv := r.Kvs[0]; kv.CreateRevision != again || kv.ModRevision != again || string(kv.Value) != "2" {
		t.Errorf("created again: %v, want revision %d", kv, again)
	}
	for revision, want := range map[int64]string{first: "1", gone: "", again: "2"} {
		r, err := d.Get(t.Context(), "/a", clientv3.WithRev(revision))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(r.Kvs) == 1 {
			got = string(r.Kvs[0].Value)
		}
		if got != want {
			t.Errorf("value at revision %d is %q, want %q", revision, got, want)
		}
	}
}

func TestEveryWriteOfAGroupHasAnOutcomeOfItsOwn(t *testing.T) {
	eachClient(t, everyWriteOfAGroupHasAnOutcomeOfItsOwn)
}

func everyWriteOfAGroupHasAnOutcomeOfItsOwn(t *testing.T, d *instance) {
	// All of them race for the same keys, so that groups hold winners and losers.
	const workers, keys = 16, 50
	wins := make(chan string, workers*keys)
	done := make(chan error, workers)
	for range workers {
		go func() {
			for i := range keys {
				key := fmt.Sprintf("/race/%d", i)
				r, err := create(t.Context(), d.Client, key, "v")
				if err != nil {
					done <- err
					return
				}
				if r.Succeeded {
					wins <- key
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	close(wins)
	won := map[string]int{}
	for key := range wins {
		won[key]++
	}
	for i := range keys {
		if n := won[fmt.Sprintf("/race/%d", i)]; n != 1 {
			t.Errorf("key %d was created %d times", i, n)
		}
	}
	r, err := d.Get(t.Context(), "/race/", clientv3.WithPrefix())
	if err != nil || len(r.Kvs) != keys {
		t.Fatalf("%d keys, want %d: %v", len(r.Kvs), keys, err)
	}
	if last := r.Header.Revision; last != int64(keys)+2 {
		t.Errorf("revision is %d after %d writes: losers used some up", last, keys)
	}
}

func TestRanges(t *testing.T) {
	d := start(t, t.TempDir())
	for i := range 10 {
		rev := mustCreate(t, d.Client, fmt.Sprintf("/r/%02d", i), fmt.Sprint(i))
		if i%2 == 1 {
			mustUpdate(t, d.Client, fmt.Sprintf("/r/%02d", i), fmt.Sprint(i, "b"), rev)
		}
	}
	mustCreate(t, d.Client, "/s", "beyond")
	before := mustCreate(t, d.Client, "/r/05a", "between")
	mustRemove(t, d.Client, "/r/05a", before)
	prefix := clientv3.WithPrefix()
	tests := []struct {
		name  string
		key   string
		opts  []clientv3.OpOption
		want  string
		count int64
		more  bool
	}{
		{"a prefix in order of its keys", "/r/0", []clientv3.OpOption{prefix}, "0 1b 2 3b 4 5b 6 7b 8 9b", 10, false},
		{"a limit", "/r/", []clientv3.OpOption{prefix, clientv3.WithLimit(3)}, "0 1b 2", 10, true},
		{"a limit that just fits", "/r/", []clientv3.OpOption{prefix, clientv3.WithLimit(10)}, "0 1b 2 3b 4 5b 6 7b 8 9b", 10, false},
		{"the rest after a limit", "/r/02\x00", []clientv3.OpOption{clientv3.WithRange("/r0"), clientv3.WithLimit(100)}, "3b 4 5b 6 7b 8 9b", 7, false},
		{"an earlier revision", "/r/", []clientv3.OpOption{prefix, clientv3.WithRev(before)}, "0 1b 2 3b 4 5b between 6 7b 8 9b", 11, false},
		{"an earlier revision with a limit", "/r/05", []clientv3.OpOption{prefix, clientv3.WithRev(before), clientv3.WithLimit(1)}, "5b", 2, true},
		{"a count", "/r/", []clientv3.OpOption{prefix, clientv3.WithCountOnly()}, "", 10, false},
		{"a count at an earlier revision", "/r/", []clientv3.OpOption{prefix, clientv3.WithCountOnly(), clientv3.WithRev(before)}, "", 11, false},
		{"everything from a key on", "/r/09", []clientv3.OpOption{clientv3.WithFromKey()}, "9b {\"health\":\"true\"} beyond", 3, false},
		{"nothing", "/nothing/", []clientv3.OpOption{prefix}, "", 0, false},
		{"one key", "/r/03", nil, "3b", 1, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := d.Get(t.Context(), test.key, test.opts...)
			if err != nil {
				t.Fatal(err)
			}
			var values []string
			for _, kv := range r.Kvs {
				values = append(values, strings.ReplaceAll(string(kv.Value), " ", ""))
			}
			if got := strings.Join(values, " "); got != test.want || r.Count != test.count || r.More != test.more {
				t.Errorf("%q count %d more %v, want %q count %d more %v", got, r.Count, r.More, test.want, test.count, test.more)
			}
			if r.Header.Revision != before+1 {
				t.Errorf("revision in the header is %d, want the current %d", r.Header.Revision, before+1)
			}
		})
	}
	t.Run("keys only", func(t *testing.T) {
		r, err := d.Get(t.Context(), "/r/", prefix, clientv3.WithKeysOnly())
		if err != nil || len(r.Kvs) != 10 || len(r.Kvs[0].Value) != 0 {
			t.Errorf("%v %v", r, err)
		}
	})
	t.Run("a revision that is not there yet is an error", func(t *testing.T) {
		if _, err := d.Get(t.Context(), "/r/", prefix, clientv3.WithRev(before+10)); !errors.Is(err, rpctypes.ErrFutureRev) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestAListIsWhatTheDatabaseWasAtItsRevision(t *testing.T) {
	eachClient(t, func(t *testing.T, d *instance) {
		listWhileOthersWrite(t, d, func() (kvs, revision int64, err error) {
			r, err := d.kube.List(t.Context(), "/c/", kubernetes.ListOptions{})
			return int64(len(r.Kvs)), r.Revision, err
		})
	})
}

func TestAPageIsCountedAtItsRevision(t *testing.T) {
	eachClient(t, func(t *testing.T, d *instance) {
		listWhileOthersWrite(t, d, func() (kvs, revision int64, err error) {
			r, err := d.kube.List(t.Context(), "/c/", kubernetes.ListOptions{Limit: 1})
			return r.Count, r.Revision, err
		})
	})
}

// listWhileOthersWrite checks what list says of the keys below /c/ while every
// revision makes one more.
func listWhileOthersWrite(t *testing.T, d *instance, list func() (kvs, revision int64, err error)) {
	_, before, err := list()
	if err != nil {
		t.Fatal(err)
	}
	const writers, writes = 8, 150
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range writes {
				if _, err := create(t.Context(), d.Client, fmt.Sprintf("/c/%d/%d", w, i), "v"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for left := writers; left > 0; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			left--
		default:
		}
		kvs, revision, err := list()
		if err != nil {
			t.Fatal(err)
		}
		if kvs != revision-before {
			t.Fatalf("%d keys at revision %d, want %d", kvs, revision, revision-before)
		}
	}
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	d := start(t, t.TempDir())
	for name, value := range map[string]string{
		"empty": "", "binary": "k8s\x00\x0a\xff\xfe\x00", "text": "näh", "a megabyte": strings.Repeat("0123456789", 120_000),
	} {
		t.Run(name, func(t *testing.T) {
			rev := mustCreate(t, d.Client, "/v/"+name, value)
			r, err := d.Get(t.Context(), "/v/"+name)
			if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
				t.Fatalf("value is not the one stored: %v", err)
			}
			mustUpdate(t, d.Client, "/v/"+name, value+"2", rev)
		})
	}
	t.Run("more than etcd takes is refused", func(t *testing.T) {
		if _, err := create(t.Context(), d.Client, "/v/huge", strings.Repeat("x", 3<<20)); err == nil {
			t.Error("3 MiB were taken")
		}
	})
}

func TestPlainPutsAndDeletesWork(t *testing.T) { eachClient(t, plainPutsAndDeletesWork) }

func plainPutsAndDeletesWork(t *testing.T, d *instance) {
	for i := range 3 {
		if _, err := d.Put(t.Context(), "/p", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, d.Client, fmt.Sprintf("/other/%d", i), "")
	}
	r, err := d.Put(t.Context(), "/p", "last", clientv3.WithPrevKV())
	if err != nil || r.PrevKv == nil || string(r.PrevKv.Value) != "2" {
		t.Fatalf("previous value: %v %v", r, err)
	}
	del, err := d.Delete(t.Context(), "/p", clientv3.WithPrevKV())
	if err != nil || del.Deleted != 1 || string(del.PrevKvs[0].Value) != "last" {
		t.Fatalf("delete: %v %v", del, err)
	}
	if del, err = d.Delete(t.Context(), "/p"); err != nil || del.Deleted != 0 {
		t.Fatalf("second delete: %v %v", del, err)
	}
}

func TestStatusSaysHowLargeTheDatabaseIs(t *testing.T) {
	d := start(t, t.TempDir())
	mustCreate(t, d.Client, "/a", strings.Repeat("x", 1<<20))
	r, err := d.Status(t.Context(), New(d.cfg, quiet()).Endpoint())
	if err != nil || r.DbSize < 1<<20 || r.DbSize > 2<<20 {
		t.Errorf("size %d after a megabyte: %v", (*r).DbSize, err)
	}
	if r.Version != kineapi.EtcdVersion {
		t.Errorf("version is %q", r.Version)
	}
}

func withPrefixCount() []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}
}
