package sqlite

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// grace is how long open streams may go on after the end of ctx. Watches
// never end by themselves, and their client has been stopped before.
const grace = 500 * time.Millisecond

// services are what the datastore offers, to the socket and to callers in this
// process alike.
type services struct {
	b       *backend
	kine    *kineapi.Bridge
	kv      *kvServer
	watches *kinewatch.Server
}

func newServices(b *backend, notify time.Duration) *services {
	if notify <= 0 {
		notify = notifyInterval
	}
	kine := kineapi.NewBridge(b, b.CurrentRevision, kineapi.FirstPages)
	s := &services{b: b, kine: kine, kv: &kvServer{Bridge: kine, b: b}, watches: kinewatch.NewServer(b.hub)}
	b.loops.Go(func() { s.watches.Notify(notify) })
	return s
}

func newServer(all *services) *grpc.Server {
	s := kineapi.NewServer()
	etcdserverpb.RegisterKVServer(s, all.kv)
	etcdserverpb.RegisterLeaseServer(s, all.kine)
	etcdserverpb.RegisterClusterServer(s, all.kine)
	etcdserverpb.RegisterMaintenanceServer(s, all.kine)
	etcdserverpb.RegisterWatchServer(s, all.watches)
	return s
}

// serve answers on the listener until ctx ends or it or the backend fails, and
// returns when no request that came over it is being worked on any more.
func serve(ctx context.Context, s *grpc.Server, b *backend, l net.Listener) error {
	result := make(chan error, 1)
	go func() { result <- s.Serve(l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-b.fatal:
	case err = <-result:
		result <- nil
		err = fmt.Errorf("serve the datastore's API: %w", err)
	}
	// Watches end with the backend, so that the server need not cut them off.
	b.cancel()
	timer := time.AfterFunc(grace, s.Stop)
	s.GracefulStop()
	timer.Stop()
	<-result
	return err
}
