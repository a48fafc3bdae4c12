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
	pinned  Pinned
}

// Pinned are the reads of the newest state that are made at a revision which has
// been asked for before.
type Pinned int

const (
	// FirstPages are lists with a limit: kine reads and counts them one after
	// the other, and with the revision of the count in the answer, whoever goes
	// on from there misses what was written between the two.
	FirstPages Pinned = iota
	// ListsAndNothing are all lists, for databases that commit writes in another
	// order than they number them: what a list says of its revision may not yet
	// have a write with a smaller one. And keys that are not there, with which
	// the API server asks for the newest revision, and for which kine answers
	// with one from its memory.
	ListsAndNothing
)

// NewBridge makes the services but for watches. current tells the newest
// revision that any client may have been told of, at which nothing changes any
// more.
func NewBridge(b server.Backend, current func(context.Context) (int64, error), pinned Pinned) *Bridge {
	// The time is between notifications of kine's own Watch service.
	return &Bridge{KVServerBridge: server.New(quiet{b}, "unix", time.Minute, EtcdVersion), current: current, pinned: pinned}
}

// Register adds all services to a server.
func (s *Bridge) Register(to *grpc.Server, watches etcdserverpb.WatchServer) {
	etcdserverpb.RegisterKVServer(to, s)
	etcdserverpb.RegisterLeaseServer(to, s)
	etcdserverpb.RegisterClusterServer(to, s)
	etcdserverpb.RegisterMaintenanceServer(to, s)
	etcdserverpb.RegisterWatchServer(to, watches)
}

// Range implements etcdserverpb.KVServer.
func (s *Bridge) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	newest, all := r.Revision <= 0, s.pinned == ListsAndNothing
	list := len(r.RangeEnd) > 0
	if newest && list && (r.Limit > 0 || all && !r.CountOnly) {
		return s.atOneRevision(ctx, r)
	}
	m, err := s.KVServerBridge.Range(ctx, r)
	if newest && all && !list && err == nil && len(m.Kvs) == 0 {
		return s.atOneRevision(ctx, r)
	}
	return m, loud(err)
}

// atOneRevision answers with the state of one revision, which is in the answer.
func (s *Bridge) atOneRevision(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
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
