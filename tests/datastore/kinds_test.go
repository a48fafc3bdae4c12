package datastore

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/datastore/external"
	"github.com/skiff-k8s/skiff/pkg/datastore/sqlite"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/tests/databases"
)

// kind is a way to keep a cluster's state.
type kind struct {
	name string
	// open makes an empty datastore. Its start may be called again after a
	// stop, and then finds what was there.
	open func(t *testing.T) *datastore
}

// datastore is one datastore of a kind.
type datastore struct {
	start func(t *testing.T) (newClient func() (*kubernetes.Client, error), stop func())
}

func kinds() []kind {
	return []kind{
		{name: "SQLite on the socket", open: openSQLite(false)},
		{name: "SQLite by calls", open: openSQLite(true)},
		{name: "etcd", open: openEtcd},
		{name: "embedded etcd by calls", open: openMember},
		{name: "PostgreSQL", open: openPostgres},
		{name: "MariaDB", open: openMariaDB},
	}
}

// each runs test for every kind, beside each other and beside other tests.
func each(t *testing.T, test func(t *testing.T, k kind)) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// running starts a new datastore of the kind for the whole test.
func (k kind) running(t *testing.T) func() (*kubernetes.Client, error) {
	t.Helper()
	newClient, stop := k.open(t).start(t)
	t.Cleanup(stop)
	return newClient
}

// client is a client of a new datastore.
func (k kind) client(t *testing.T) *kubernetes.Client {
	t.Helper()
	return use(t, k.running(t))
}

func use(t *testing.T, newClient func() (*kubernetes.Client, error)) *kubernetes.Client {
	t.Helper()
	c, err := newClient()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// component is what embedded and external datastores have in common.
type component interface {
	Run(ctx context.Context, ready func()) error
	Endpoints() []string
}

// run runs a component until stop.
func run(t *testing.T, c component) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- c.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// connect makes clients of an endpoint.
func connect(endpoints []string) func() (*kubernetes.Client, error) {
	return func() (*kubernetes.Client, error) {
		return kubernetes.New(clientv3.Config{Endpoints: endpoints, DialTimeout: time.Minute, Logger: zap.NewNop()})
	}
}

func openSQLite(byCalls bool) func(t *testing.T) *datastore {
	return func(t *testing.T) *datastore {
		dir := t.TempDir()
		return &datastore{start: func(t *testing.T) (func() (*kubernetes.Client, error), func()) {
			d := sqlite.New(sqlite.Config{Path: filepath.Join(dir, "db", "state.db"), Socket: filepath.Join(dir, "kine.sock")}, quiet())
			stop := run(t, d)
			if byCalls {
				return d.Client, stop
			}
			return connect(d.Endpoints()), stop
		}}
	}
}

// openEtcd is etcd's own server, with its data in memory as far as the disk goes.
func openEtcd(t *testing.T) *datastore {
	dir := t.TempDir()
	return &datastore{start: func(t *testing.T) (func() (*kubernetes.Client, error), func()) {
		cfg := embed.NewConfig()
		cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = dir, "fatal", true
		any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = any, any
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = any, any
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-e.Server.ReadyNotify():
		case err := <-e.Err():
			t.Fatal(err)
		}
		return connect([]string{"http://" + e.Clients[0].Addr().String()}), sync.OnceFunc(e.Close)
	}}
}

// openMember is Skiff's embedded etcd, as the API server calls it.
func openMember(t *testing.T) *datastore {
	l := layout.Layout{Data: t.TempDir(), Config: t.TempDir()}
	if _, err := pki.Ensure(pki.Config{Server: &pki.ServerConfig{Layout: l, Etcd: true}}, time.Now(), quiet()); err != nil {
		t.Fatal(err)
	}
	return &datastore{start: func(t *testing.T) (func() (*kubernetes.Client, error), func()) {
		m := etcd.New(etcd.Config{
			Dir: l.Etcd(), Node: "node", Alone: true, Address: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Files: pki.EtcdFilesOf(l),
			Args: []string{"unsafe-no-fsync=true", "heartbeat-interval=10", "election-timeout=100"}, Zap: zap.NewNop(),
		}, quiet())
		return m.Client, run(t, m)
	}}
}

// made counts databases, each of which has one datastore. Other processes of
// the tests use the same servers.
var made = new(atomic.Int64)

func newDatabase() string { return fmt.Sprintf("d%d_%d", os.Getpid(), made.Add(1)) }

func openPostgres(t *testing.T) *datastore {
	s := postgres(t)
	return openExternal(fmt.Sprintf("postgres://%s:%s@%s/%s", databases.User, s.Password, s.address(), newDatabase()))(t)
}

func openMariaDB(t *testing.T) *datastore {
	s := mariaDB(t)
	return openExternal(fmt.Sprintf("mysql://%s:%s@tcp(%s)/%s", databases.User, s.Password, s.address(), newDatabase()))(t)
}

func openExternal(endpoint string) func(t *testing.T) *datastore {
	return func(t *testing.T) *datastore {
		dir := t.TempDir()
		return &datastore{start: func(t *testing.T) (func() (*kubernetes.Client, error), func()) {
			d, err := external.New(external.Config{Endpoint: endpoint, Socket: filepath.Join(dir, "kine.sock"), MaxOpen: 16}, quiet())
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, d)
			return connect(d.Endpoints()), stop
		}}
	}
}

// server is a database server of this machine.
type server struct{ databases.Server }

func (s server) address() string { return net.JoinHostPort(s.Address, fmt.Sprint(s.Port)) }
