package sqlite

import (
	"context"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// kvCalls is a KV client that calls the service instead of sending to it.
type kvCalls struct{ s *kvServer }

var _ etcdserverpb.KVClient = kvCalls{}

// Range implements etcdserverpb.KVClient.
func (c kvCalls) Range(ctx context.Context, r *etcdserverpb.RangeRequest, _ ...grpc.CallOption) (*etcdserverpb.RangeResponse, error) {
	return c.s.Range(ctx, r)
}

// Put implements etcdserverpb.KVClient.
func (c kvCalls) Put(ctx context.Context, r *etcdserverpb.PutRequest, _ ...grpc.CallOption) (*etcdserverpb.PutResponse, error) {
	return c.s.Put(ctx, r)
}

// DeleteRange implements etcdserverpb.KVClient.
func (c kvCalls) DeleteRange(ctx context.Context, r *etcdserverpb.DeleteRangeRequest, _ ...grpc.CallOption) (*etcdserverpb.DeleteRangeResponse, error) {
	return c.s.DeleteRange(ctx, r)
}

// Txn implements etcdserverpb.KVClient.
func (c kvCalls) Txn(ctx context.Context, r *etcdserverpb.TxnRequest, _ ...grpc.CallOption) (*etcdserverpb.TxnResponse, error) {
	return c.s.Txn(ctx, r)
}

// Compact implements etcdserverpb.KVClient.
func (c kvCalls) Compact(ctx context.Context, r *etcdserverpb.CompactionRequest, _ ...grpc.CallOption) (*etcdserverpb.CompactionResponse, error) {
	return c.s.Compact(ctx, r)
}

// leaseCalls is the same for leases, of which kine only has granting.
type leaseCalls struct{ s *server.KVServerBridge }

var _ etcdserverpb.LeaseClient = leaseCalls{}

// LeaseGrant implements etcdserverpb.LeaseClient.
func (c leaseCalls) LeaseGrant(ctx context.Context, r *etcdserverpb.LeaseGrantRequest, _ ...grpc.CallOption) (*etcdserverpb.LeaseGrantResponse, error) {
	return c.s.LeaseGrant(ctx, r)
}

// LeaseRevoke implements etcdserverpb.LeaseClient.
func (c leaseCalls) LeaseRevoke(ctx context.Context, r *etcdserverpb.LeaseRevokeRequest, _ ...grpc.CallOption) (*etcdserverpb.LeaseRevokeResponse, error) {
	return c.s.LeaseRevoke(ctx, r)
}

// LeaseKeepAlive implements etcdserverpb.LeaseClient.
func (c leaseCalls) LeaseKeepAlive(context.Context, ...grpc.CallOption) (etcdserverpb.Lease_LeaseKeepAliveClient, error) {
	return nil, status.Error(codes.Unimplemented, "keeping a lease alive is not implemented")
}

// LeaseTimeToLive implements etcdserverpb.LeaseClient.
func (c leaseCalls) LeaseTimeToLive(ctx context.Context, r *etcdserverpb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
	return c.s.LeaseTimeToLive(ctx, r)
}

// LeaseLeases implements etcdserverpb.LeaseClient.
func (c leaseCalls) LeaseLeases(ctx context.Context, r *etcdserverpb.LeaseLeasesRequest, _ ...grpc.CallOption) (*etcdserverpb.LeaseLeasesResponse, error) {
	return c.s.LeaseLeases(ctx, r)
}

// Status answers for the one endpoint that there is. The API server asks for
// the version, to know what it may use.
func (d *Datastore) Status(ctx context.Context, _ string) (*clientv3.StatusResponse, error) {
	e := d.serving.Load()
	if e == nil {
		return nil, errNotServing
	}
	r, err := e.kine.Status(ctx, &etcdserverpb.StatusRequest{})
	return (*clientv3.StatusResponse)(r), clientv3.ContextError(ctx, err)
}

// Endpoints is the address that Status is asked for.
func (d *Datastore) Endpoints() []string { return []string{d.Endpoint()} }
