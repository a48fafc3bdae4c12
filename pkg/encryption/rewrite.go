package encryption

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-k8s/skiff/pkg/keyring"
)

const (
	// page is how many Secrets are read at a time; each may have a megabyte.
	page = 64
	// writers is how many are written at a time.
	writers = 8
	// maxProblems is how many failures a pass goes on after.
	maxProblems = 16
)

// Values is where all Secrets are stored.
type Values struct {
	// Client makes a client of the datastore.
	Client func() (*clientv3.Client, error)
	// Prefix is what the keys of Secrets begin with.
	Prefix string
}

// each calls visit with the namespace, name and value of every Secret that is
// stored.
func (v Values) each(ctx context.Context, visit func(namespace, name string, value []byte) error) error {
	client, err := v.Client()
	if err != nil {
		return fmt.Errorf("reading what is stored of Secrets: %w", err)
	}
	defer client.Close()
	start, end := v.Prefix, clientv3.GetPrefixRangeEnd(v.Prefix)
	for {
		r, err := client.KV.Get(ctx, start, clientv3.WithRange(end), clientv3.WithLimit(page))
		if err != nil {
			return fmt.Errorf("reading what is stored of Secrets: %w", err)
		}
		for _, kv := range r.Kvs {
			namespace, name, ok := strings.Cut(strings.TrimPrefix(string(kv.Key), v.Prefix), "/")
			if !ok {
				continue
			}
			if err := visit(namespace, name, kv.Value); err != nil {
				return err
			}
		}
		if !r.More || len(r.Kvs) == 0 {
			return nil
		}
		start = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// count says how many Secrets there are, and how many are stored as the ring
// would write them.
func (v Values) count(ctx context.Context, ring keyring.Ring) (all, current int, err error) {
	err = v.each(ctx, func(_, _ string, value []byte) error {
		all++
		if ring.Written(value) {
			current++
		}
		return nil
	})
	return all, current, err
}

// rewrite has every Secret that is stored in another way written anew, until
// there is none.
func (c *Controller) rewrite(ctx context.Context, ring keyring.Ring) (count int, err error) {
	for {
		n, err := c.pass(ctx, ring)
		count += n
		if err != nil || n == 0 {
			return count, err
		}
	}
}

// pass looks at every Secret once.
func (c *Controller) pass(ctx context.Context, ring keyring.Ring) (count int, err error) {
	var mu sync.Mutex
	var problems []error
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(writers)
	err = c.cfg.Values.each(ctx, func(namespace, name string, value []byte) error {
		if ring.Written(value) {
			return nil
		}
		count++
		work.Go(func() error {
			err := c.touch(ctx, namespace, name)
			if err == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if problems = append(problems, fmt.Errorf("writing the Secret %s/%s: %w", namespace, name, err)); len(problems) >= maxProblems {
				return errors.New("too many could not be written")
			}
			return nil
		})
		return ctx.Err()
	})
	failed := work.Wait()
	if len(problems) > 0 {
		return count, errors.Join(problems...)
	}
	return count, errors.Join(err, failed)
}

// touch changes nothing of a Secret. The API server writes what it finds stored
// in another way than it would write it, whatever else happens to the Secret at
// that moment.
func (c *Controller) touch(ctx context.Context, namespace, name string) error {
	err := c.client.CoreV1().RESTClient().Patch(types.MergePatchType).
		Namespace(namespace).Resource("secrets").Name(name).Body([]byte("{}")).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil // it was deleted meanwhile
	}
	return err
}
