package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"google.golang.org/grpc/codes"
)

// errNotServing answers who comes too early.
var errNotServing = errors.New("the embedded etcd does not run yet")

// leaderless is how long watches go on without a leader, as with etcd's own
// connections: three elections.
const leaderless = 3 * election * time.Millisecond

// Client makes a client for code in this process, whose requests are calls. It
// may be called once Run has called ready. Values that it returns must not be
// changed. Its watches end when there has been no leader for a while: they
// would be silent, and their reader believe that nothing happens.
func (m *Member) Client() (*kubernetes.Client, error) {
	s := m.server.Load()
	if s == nil {
		return nil, errNotServing
	}
	c := &kubernetes.Client{Client: v3client.New(s)}
	c.Client.KV = patient{c.Client.KV}
	c.Client.Watcher = watcher{c.Client.Watcher, &m.office}
	c.Kubernetes = c
	return c, nil
}

// Status answers for the one endpoint that there is: the API server asks for
// the version, to know what it may use.
func (m *Member) Status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	s := m.server.Load()
	if s == nil {
		return nil, errNotServing
	}
	c := v3client.New(s)
	defer c.Close()
	return c.Status(ctx, endpoint)
}

// Endpoints are where clients on this machine reach the member by connections.
func (m *Member) Endpoints() []string { return []string{m.cfg.Endpoint()} }

// WithProgressNotify has nothing to add: clients say it with clientv3's option.
func (m *Member) WithProgressNotify(ctx context.Context) context.Context { return ctx }

// office says whether there is a leader, for as long as that lasts.
type office struct {
	mu   sync.Mutex
	led  context.Context // ends when there has been no leader for a while
	end  context.CancelFunc
	seen time.Time // the last time that there was one
}

func (o *office) context() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.led == nil {
		o.led, o.end = context.WithCancel(context.Background())
		o.seen = time.Now()
	}
	return o.led
}

// look is called often.
func (o *office) look(s *etcdserver.EtcdServer) {
	led := o.context()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case s.Leader() == 0 && time.Since(o.seen) > leaderless:
		o.end()
	case s.Leader() != 0:
		o.seen = time.Now()
		if led.Err() != nil {
			o.led, o.end = context.WithCancel(context.Background())
		}
	}
}

// close ends the watches with the member.
func (o *office) close() {
	o.context()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end()
}

// As etcd's own clients do, reads that a change of the leader has cut short are
// made again, for as long as an election takes.
const (
	readAttempts = 40
	readPause    = 100 * time.Millisecond
)

// patient is a KV that does.
type patient struct{ clientv3.KV }

// Get implements clientv3.KV.
func (p patient) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	for attempt := 1; ; attempt++ {
		r, err := p.KV.Get(ctx, key, opts...)
		var failed rpctypes.EtcdError
		if attempt == readAttempts || !errors.As(rpctypes.Error(err), &failed) || failed.Code() != codes.Unavailable {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(readPause):
		}
	}
}

// watcher is a client's, whose watches end with the office.
type watcher struct {
	clientv3.Watcher
	office *office
}

// Watch implements clientv3.Watcher.
func (w watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	watching, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(w.office.context(), cancel)
	context.AfterFunc(watching, func() { stop() })
	return w.Watcher.Watch(watching, key, opts...)
}
