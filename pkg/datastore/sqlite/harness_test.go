package sqlite

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// instance is a running datastore and a client of it.
type instance struct {
	*clientv3.Client
	kube  kubernetes.Interface
	store *Datastore
	cfg   Config
	stop  func() error
}

// start runs a datastore on dir until the test ends.
func start(t testing.TB, dir string) *instance {
	t.Helper()
	cfg := Config{Path: filepath.Join(dir, "db", "state.db"), Socket: filepath.Join(dir, "run", "kine.sock")}
	return startWith(t, cfg)
}

func startWith(t testing.TB, cfg Config) *instance {
	t.Helper()
	d := New(cfg, quiet())
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- d.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("the datastore did not start: %v", err)
	}
	c := connect(t, d.Endpoint())
	i := &instance{Client: c, kube: kubernetes.Client{Client: c}, store: d, cfg: cfg}
	stopped := false
	i.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		i.Client.Close()
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("the datastore does not stop")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return i
}

func connect(t testing.TB, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create, update and remove are the transactions that the API server sends.
func create(ctx context.Context, c *clientv3.Client, key, value string, opts ...clientv3.OpOption) (*clientv3.TxnResponse, error) {
	return update(ctx, c, key, value, 0, opts...)
}

func update(ctx context.Context, c *clientv3.Client, key, value string, revision int64, opts ...clientv3.OpOption) (*clientv3.TxnResponse, error) {
	return c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, value, opts...)).Else(clientv3.OpGet(key)).Commit()
}

func remove(ctx context.Context, c *clientv3.Client, key string, revision int64) (*clientv3.TxnResponse, error) {
	return c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpDelete(key)).Else(clientv3.OpGet(key)).Commit()
}

func mustCreate(t testing.TB, c *clientv3.Client, key, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	r, err := create(t.Context(), c, key, value, opts...)
	if err != nil || !r.Succeeded {
		t.Fatalf("create %s: %v %v", key, r, err)
	}
	return r.Header.Revision
}

func mustUpdate(t testing.TB, c *clientv3.Client, key, value string, revision int64) int64 {
	t.Helper()
	r, err := update(t.Context(), c, key, value, revision)
	if err != nil || !r.Succeeded {
		t.Fatalf("update %s at %d: %v %v", key, revision, r, err)
	}
	return r.Header.Revision
}

func mustRemove(t testing.TB, c *clientv3.Client, key string, revision int64) int64 {
	t.Helper()
	r, err := remove(t.Context(), c, key, revision)
	if err != nil || !r.Succeeded {
		t.Fatalf("delete %s at %d: %v %v", key, revision, r, err)
	}
	return r.Header.Revision
}

// newTestBackend is a backend without a server.
func newTestBackend(t testing.TB) *backend {
	t.Helper()
	b, err := newBackend(filepath.Join(t.TempDir(), "db", "state.db"), 0, new(counters), quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// eachClient runs test with a client on the socket and with one whose requests
// are calls, on a datastore each.
func eachClient(t *testing.T, test func(t *testing.T, d *instance)) {
	t.Run("on the socket", func(t *testing.T) { test(t, start(t, t.TempDir())) })
	t.Run("by calls", func(t *testing.T) { test(t, startCalls(t, t.TempDir())) })
}

// startCalls is start with a client of Client.
func startCalls(t testing.TB, dir string) *instance {
	t.Helper()
	d := start(t, dir)
	d.Client.Close()
	d.byCalls(t)
	return d
}

// byCalls exchanges the client.
func (i *instance) byCalls(t testing.TB) {
	t.Helper()
	c, err := i.store.Client()
	if err != nil {
		t.Fatal(err)
	}
	i.Client, i.kube = c.Client, c.Kubernetes
}
