package kineapi

import (
	"context"
	"errors"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// EtcdVersion is what clients decide on features by: progress requests, which
// the API server's consistent reads need.
const EtcdVersion = "3.6.11"

// Bridge is kine's services on a backend, apart from what is said in the
// package's comment.
type Bridge struct {
	*server.KVServerBridge
	current func(context.Context) (int64, error)
}

// NewBridge makes the services. notify is the time between notifications of
// kine's own Watch service. current tells the newest revision that any client
// may have been told of.
func NewBridge(b server.Backend, notify time.Duration, current func(context.Context) (int64, error)) *Bridge {
	return &Bridge{KVServerBridge: server.New(quiet{b}, "unix", notify, EtcdVersion), current: current}
}

// Register adds all services to a server.
func (s *Bridge) Register(to *grpc.Server) {
	etcdserverpb.RegisterKVServer(to, s)
	etcdserverpb.RegisterLeaseServer(to, s)
	etcdserverpb.RegisterClusterServer(to, s)
	etcdserverpb.RegisterMaintenanceServer(to, s)
	etcdserverpb.RegisterWatchServer(to, s)
}

// Range implements etcdserverpb.KVServer.
func (s *Bridge) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	if r.Limit > 0 && r.Revision <= 0 && len(r.RangeEnd) > 0 {
		return s.page(ctx, r)
	}
	m, err := s.KVServerBridge.Range(ctx, r)
	return m, loud(err)
}

// page answers the first page of a list, which kine reads and counts one after
// the other: with the revision of the count in its answer, whoever goes on from
// there misses what was written between the two.
func (s *Bridge) page(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	for {
		revision, err := s.current(ctx)
		if err != nil {
			return nil, err
		}
		r.Revision = revision
		m, err := s.KVServerBridge.Range(ctx, r)
		switch err = loud(err); {
		case err == nil:
			m.Header.Revision = revision
			return m, nil
		case !errors.Is(err, server.ErrCompacted): // else a compaction was faster
			return nil, err
		}
	}
}

// Txn implements etcdserverpb.KVServer.
func (s *Bridge) Txn(ctx context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	m, err := s.KVServerBridge.Txn(ctx, r)
	return m, loud(err)
}

// Put implements etcdserverpb.KVServer.
func (s *Bridge) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	m, err := s.KVServerBridge.Put(ctx, r)
	return m, loud(err)
}

// Compact implements etcdserverpb.KVServer.
func (s *Bridge) Compact(ctx context.Context, r *etcdserverpb.CompactionRequest) (*etcdserverpb.CompactionResponse, error) {
	m, err := s.KVServerBridge.Compact(ctx, r)
	return m, loud(err)
}
