package datastore

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"golang.org/x/sync/errgroup"
)

// TestAListAndTheWatchFromThereHaveEverything lists while many write, again and
// again, and watches from the revision of each list on, as every cache in
// Kubernetes does. A write that is in neither is one that a controller never
// hears of.
func TestAListAndTheWatchFromThereHaveEverything(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		const writers, writes, followers = 24, 40, 40
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var writing, following errgroup.Group
		for w := range writers {
			writing.Go(func() error {
				for i := range writes {
					if err := create(ctx, c, fmt.Sprintf("/f/%d/%d", w, i)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for range followers {
			following.Go(func() error { return follow(ctx, c, "/f/", writers*writes) })
			<-time.After(5 * time.Millisecond) // they join at different points of the load
		}
		if err := writing.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := following.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func create(ctx context.Context, c *kubernetes.Client, key string) error {
	r, err := c.Kubernetes.OptimisticPut(ctx, key, []byte("value"), 0, kubernetes.PutOptions{})
	if err == nil && !r.Succeeded {
		err = fmt.Errorf("%s exists", key)
	}
	return err
}

// follow returns when it knows of so many keys. Each is created once.
func follow(ctx context.Context, c *kubernetes.Client, prefix string, keys int) error {
	list, err := c.Kubernetes.List(ctx, prefix, kubernetes.ListOptions{})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, kv := range list.Kvs {
		known[string(kv.Key)] = true
	}
	listed, last := len(known), list.Revision
	w := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Revision+1))
	for len(known) < keys {
		r, open := <-w
		if err := r.Err(); err != nil || !open {
			return fmt.Errorf("%d of %d keys are known, %d of them from the list at %d, the last from %d: %w",
				len(known), keys, listed, list.Revision, last, ctx.Err())
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision <= last || known[string(e.Kv.Key)] {
				return fmt.Errorf("the event of %s at %d comes after %d", e.Kv.Key, e.Kv.ModRevision, last)
			}
			known[string(e.Kv.Key)], last = true, e.Kv.ModRevision
		}
	}
	return nil
}

// TestWhatFindsNothingKnowsTheNewestRevision reads keys that are not there while
// many write: this is how the API server asks for the revision that its caches
// must have before they answer, and at which a watch from now on begins.
func TestWhatFindsNothingKnowsTheNewestRevision(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		c := k.client(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var writing errgroup.Group
		for w := range 24 {
			writing.Go(func() error {
				for i := range 40 {
					if err := nothingAfterAWrite(ctx, c, fmt.Sprintf("/n/%d/%d", w, i)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := writing.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func nothingAfterAWrite(ctx context.Context, c *kubernetes.Client, key string) error {
	written, err := c.Kubernetes.OptimisticPut(ctx, key, []byte("value"), 0, kubernetes.PutOptions{})
	if err != nil || !written.Succeeded {
		return fmt.Errorf("write %s: %+v %v", key, written, err)
	}
	one, err := c.Kubernetes.Get(ctx, "/none", kubernetes.GetOptions{})
	if err != nil || one.KV != nil || one.Revision < written.Revision {
		return fmt.Errorf("a key that is not there, after a write at %d: %+v %v", written.Revision, one, err)
	}
	many, err := c.Kubernetes.List(ctx, "/none/", kubernetes.ListOptions{})
	if err != nil || len(many.Kvs) > 0 || many.Revision < written.Revision {
		return fmt.Errorf("a list of nothing, after a write at %d: %+v %v", written.Revision, many, err)
	}
	many, err = c.Kubernetes.List(ctx, "/none/", kubernetes.ListOptions{Revision: many.Revision})
	if err != nil || len(many.Kvs) > 0 {
		return fmt.Errorf("a list of nothing, at a revision that a list has named: %+v %v", many, err)
	}
	return nil
}
