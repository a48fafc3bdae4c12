package sqlite

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/k3s-io/kine/pkg/server"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// errNotServing answers who comes too early.
var errNotServing = errors.New("the datastore does not run yet")

// Client is a client of the datastore for code in this process, such as the API
// server: the requests of the Kubernetes interface, and watches, are calls, with
// no connection and nothing encoded in between. It answers as a client on the
// socket would be answered. What the API server sends rarely goes through the
// services that the socket serves, by calls too.
//
// It may be called once Run has called ready; each caller's watches are a stream
// of their own, as far as progress requests go. Values handed to it must not be
// changed afterwards, nor those that it returns. After the datastore has ended
// requests fail and watches stay silent. Close ends the client's watches.
func (d *Datastore) Client() (*kubernetes.Client, error) {
	e := d.serving.Load()
	if e == nil {
		return nil, errNotServing
	}
	c := clientv3.NewCtxClient(context.Background())
	c.KV = clientv3.NewKVFromKVClient(kvCalls{e.kv}, nil)
	c.Lease = clientv3.NewLeaseFromLeaseClient(leaseCalls{e.kine.KVServerBridge}, nil, 0)
	c.Watcher = kinewatch.NewCalls(c.Ctx(), e.watches)
	return &kubernetes.Client{Client: c, Kubernetes: calls{e.b}}, nil
}

// WithProgressNotify is clientv3.WithProgressNotify for the watches of a client
// of Client, which can not see that option.
func (d *Datastore) WithProgressNotify(ctx context.Context) context.Context {
	return kinewatch.WithProgressNotify(ctx)
}

// calls is the interface that the API server's requests go through.
type calls struct{ b *backend }

var _ kubernetes.Interface = calls{}

// Get implements kubernetes.Interface.
func (c calls) Get(ctx context.Context, key string, opts kubernetes.GetOptions) (r kubernetes.GetResponse, err error) {
	revision, kv, err := c.b.Get(ctx, kineapi.StoredKey(key), opts.Revision, false)
	if err != nil {
		return r, clientv3.ContextError(ctx, err)
	}
	return kubernetes.GetResponse{KV: kineapi.WireKV(kv), Revision: revision}, nil
}

// List implements kubernetes.Interface. Keys and count are those of one
// revision, the one that is returned unless an older one was asked for.
func (c calls) List(ctx context.Context, prefix string, opts kubernetes.ListOptions) (r kubernetes.ListResponse, err error) {
	start, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if opts.Continue != "" {
		start = opts.Continue
	}
	limit := opts.Limit
	if limit > 0 {
		limit++ // one more tells whether there are more
	}
	revision, kvs, err := c.b.List(ctx, start, end, limit, opts.Revision, false)
	if err != nil {
		return r, clientv3.ContextError(ctx, err)
	}
	r = kubernetes.ListResponse{Count: int64(len(kvs)), Revision: revision}
	if opts.Limit > 0 && r.Count > opts.Limit {
		kvs = kvs[:opts.Limit]
		at := opts.Revision
		if at <= 0 {
			at = revision
		}
		if _, r.Count, err = c.b.Count(ctx, start, end, at); err != nil {
			return r, clientv3.ContextError(ctx, err)
		}
	}
	r.Kvs = make([]*mvccpb.KeyValue, len(kvs))
	for i, kv := range kvs {
		r.Kvs[i] = kineapi.WireKV(kv)
	}
	return r, nil
}

// Count implements kubernetes.Interface.
func (c calls) Count(ctx context.Context, prefix string, _ kubernetes.CountOptions) (int64, error) {
	_, n, err := c.b.Count(ctx, prefix, clientv3.GetPrefixRangeEnd(prefix), 0)
	return n, clientv3.ContextError(ctx, err)
}

// OptimisticPut implements kubernetes.Interface.
func (c calls) OptimisticPut(ctx context.Context, key string, value []byte, expected int64, opts kubernetes.PutOptions) (r kubernetes.PutResponse, err error) {
	if len(key)+len(value) > kineapi.MaxRequest {
		return r, rpctypes.ErrRequestTooLarge
	}
	w := &write{op: opUpdate, key: kineapi.StoredKey(key), value: value, revision: expected, lease: int64(opts.LeaseID)}
	if expected == 0 {
		w.op = opCreate
	}
	o := c.b.writer.submit(ctx, w)
	exists := errors.Is(o.err, server.ErrKeyExists)
	if o.err != nil && !exists {
		return r, clientv3.ContextError(ctx, o.err)
	}
	r = kubernetes.PutResponse{Succeeded: o.ok, Revision: o.revision}
	if o.ok || !opts.GetOnFailure {
		return r, nil
	}
	if exists { // a create does not read what is there
		if _, o.kv, err = c.b.Get(ctx, w.key, o.revision, false); err != nil {
			return r, clientv3.ContextError(ctx, err)
		}
	}
	r.KV = kineapi.WireKV(o.kv)
	return r, nil
}

// OptimisticDelete implements kubernetes.Interface.
func (c calls) OptimisticDelete(ctx context.Context, key string, expected int64, opts kubernetes.DeleteOptions) (r kubernetes.DeleteResponse, err error) {
	o := c.b.writer.submit(ctx, &write{op: opDelete, key: kineapi.StoredKey(key), revision: expected})
	if o.err != nil {
		return r, clientv3.ContextError(ctx, o.err)
	}
	r = kubernetes.DeleteResponse{Succeeded: o.ok, Revision: o.revision}
	if !o.ok && opts.GetOnFailure {
		r.KV = kineapi.WireKV(o.kv)
	}
	return r, nil
}
