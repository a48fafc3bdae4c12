package sqlite

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestKeysWithALeaseExpire(t *testing.T) {
	dir := t.TempDir()
	d := start(t, dir)
	lease, err := d.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	w := d.Watch(t.Context(), "/lease/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(t, w)
	began := time.Now()
	mustCreate(t, d.Client, "/lease/a", "1", clientv3.WithLease(lease.ID))
	next(t, w)
	if e := next(t, w).Events[0]; e.Type != clientv3.EventTypeDelete {
		t.Fatalf("event is %v, want the end of the key", e)
	}
	if lived := time.Since(began); lived < time.Second {
		t.Errorf("the key lived for %s only", lived)
	}
	mustCreate(t, d.Client, "/lease/b", "1", clientv3.WithLease(lease.ID))
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = start(t, dir)
	w = d.Watch(t.Context(), "/lease/", clientv3.WithPrefix(), clientv3.WithRev(1))
	for {
		for _, e := range next(t, w).Events {
			if e.Type == clientv3.EventTypeDelete && string(e.Kv.Key) == "/lease/b" {
				return
			}
		}
	}
}

func TestKeysThatExpireTogetherAreDeletedTogether(t *testing.T) {
	d := start(t, t.TempDir())
	const keys = 400
	for i := range keys {
		mustCreate(t, d.Client, fmt.Sprintf("/lease/%d", i), "1", clientv3.WithLease(3600))
	}
	before := d.store.counts.commits.Load()
	d.store.serving.Load().b.expiry.expireAt(t, time.Hour+longRounding)
	if n := d.store.counts.commits.Load() - before; n > 4 {
		t.Errorf("%d commits for %d keys", n, keys)
	}
	if r, err := d.Get(t.Context(), "/lease/", clientv3.WithPrefix()); err != nil || r.Count != 0 {
		t.Errorf("%v keys are left: %v", r, err)
	}
}

// expireAt does what the run loop does at a time.
func (e *expirer) expireAt(t *testing.T, now time.Duration) {
	t.Helper()
	keys, _ := e.due(time.Since(e.start) + now)
	e.expire(keys)
}

func TestAKeyThatWasChangedLivesByItsNewLease(t *testing.T) {
	d := start(t, t.TempDir())
	first := mustCreate(t, d.Client, "/lease/renewed", "1", clientv3.WithLease(60))
	if _, err := update(t.Context(), d.Client, "/lease/renewed", "2", first, clientv3.WithLease(3600)); err != nil {
		t.Fatal(err)
	}
	other := mustCreate(t, d.Client, "/lease/freed", "1", clientv3.WithLease(60))
	mustUpdate(t, d.Client, "/lease/freed", "2", other)
	e := d.store.serving.Load().b.expiry
	count := func() int64 {
		r, err := d.Get(t.Context(), "/lease/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	e.expireAt(t, 2*time.Minute)
	if n := count(); n != 2 {
		t.Errorf("%d keys are left after the old lease, want both", n)
	}
	e.expireAt(t, time.Hour+longRounding)
	if n := count(); n != 1 {
		t.Errorf("%d keys are left after the new lease, want the one without", n)
	}
}

func TestLeasesAreRoundedUpSoThatTheyEndTogether(t *testing.T) {
	for _, test := range []struct {
		lease, late time.Duration
	}{{time.Second, rounding}, {time.Minute, rounding}, {time.Hour, longRounding}} {
		e := newExpirer(nil)
		var first time.Duration
		for i := range 50 {
			before := time.Since(e.start)
			e.add(leased{fmt.Sprint(i), int64(i)}, test.lease)
			if _, first = e.due(0); first < before+test.lease {
				t.Errorf("a lease of %s ends %s early", test.lease, before+test.lease-first)
			}
			if late := first - before - test.lease; late > test.late {
				t.Errorf("a lease of %s ends %s late", test.lease, late)
			}
		}
		if len(e.keys) > 2 {
			t.Errorf("leases of %s end at %d times", test.lease, len(e.keys))
		}
	}
}
