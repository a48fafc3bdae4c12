package sqlite

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// kvServer is kine's KV service but for two requests, which the API server does
// not send and people with etcdctl do: kine's Put fails on a key that exists
// unless it was the last one written, and its DeleteRange is missing.
type kvServer struct {
	*kineapi.Bridge
	b *backend
}

// Put implements etcdserverpb.KVServer.
func (s *kvServer) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	if r.IgnoreValue || r.IgnoreLease {
		return nil, status.Error(codes.Unimplemented, "ignore_value and ignore_lease are not implemented")
	}
	o := s.b.writer.submit(ctx, &write{op: opPut, key: kineapi.StoredKey(r.Key), value: r.Value, lease: r.Lease})
	if o.err != nil {
		return nil, o.err
	}
	m := &etcdserverpb.PutResponse{Header: &etcdserverpb.ResponseHeader{Revision: o.revision}}
	if r.PrevKv {
		m.PrevKv = kineapi.WireKV(o.previous)
	}
	return m, nil
}

// DeleteRange implements etcdserverpb.KVServer for one key.
func (s *kvServer) DeleteRange(ctx context.Context, r *etcdserverpb.DeleteRangeRequest) (*etcdserverpb.DeleteRangeResponse, error) {
	if len(r.RangeEnd) > 0 {
		return nil, status.Error(codes.Unimplemented, "deleting a range is not implemented: delete its keys one by one")
	}
	revision, kv, _, err := s.b.Delete(ctx, kineapi.StoredKey(r.Key), 0)
	if err != nil {
		return nil, err
	}
	m := &etcdserverpb.DeleteRangeResponse{Header: &etcdserverpb.ResponseHeader{Revision: revision}}
	if kv != nil {
		m.Deleted = 1
		if r.PrevKv {
			m.PrevKvs = []*mvccpb.KeyValue{kineapi.WireKV(kv)}
		}
	}
	return m, nil
}
