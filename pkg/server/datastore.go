package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/datastore/external"
	"github.com/skiff-k8s/skiff/pkg/datastore/sqlite"
	"github.com/skiff-k8s/skiff/pkg/kube/apiserver"
	"github.com/skiff-k8s/skiff/pkg/pki"
)

// datastore is what keeps the cluster's state, of whichever kind.
type datastore struct {
	// Component runs it, or keeps the way to it; others may rely on it once it
	// is ready.
	component.Component
	// etcd is how the API server reaches it.
	etcd apiserver.EtcdConfig
	// client makes a client for what Skiff itself keeps there. It may be
	// called once the component is ready; the caller closes it.
	client func() (*clientv3.Client, error)
	// settle, if not nil, is called once the cluster's first objects are there.
	settle func(context.Context) error
	// metrics are the datastore's own.
	metrics []prometheus.Collector
	// members, if not nil, is the embedded etcd, which other servers can join.
	members *etcd.Member
	// shared says that other servers may use it, too.
	shared bool
}

// datastore chooses the datastore; it is the one place that knows all kinds.
func (p *parts) datastore() (datastore, error) {
	switch kind := p.datastoreKind(); kind {
	case config.DatastoreSQLite:
		return p.sqlite(), nil
	case config.DatastoreEtcd:
		return p.etcd(), nil
	case config.DatastoreExternal:
		return p.external()
	default:
		return datastore{}, fmt.Errorf("there is no datastore of the kind %q", kind)
	}
}

// datastoreKind is what the settings ask for; a server that has been a member
// of an etcd cluster before stays one without being told again.
func (p *parts) datastoreKind() config.DatastoreKind { return datastoreKind(p.cfg) }

func datastoreKind(cfg config.Server) config.DatastoreKind {
	kind := cfg.Datastore.Kind
	if kind == config.DatastoreSQLite && etcd.Exists(cfg.Layout.Etcd()) {
		return config.DatastoreEtcd
	}
	return kind
}

func (p *parts) etcd() datastore {
	files := pki.EtcdFilesOf(p.cfg.Layout)
	m := etcd.New(etcd.Config{
		Dir:            p.cfg.Layout.Etcd(),
		Node:           p.cfg.Node.Name,
		Address:        p.peerAddress(),
		Files:          files,
		InitialCluster: p.initialCluster,
		Args:           p.cfg.Datastore.Etcd.Extra,
		Metrics:        p.cfg.Datastore.EtcdMetrics,
		Zap:            p.logs.Zap("etcd"),
	}, p.logs.For("etcd"))
	return datastore{
		Component: m,
		etcd:      apiserver.EtcdConfig{Endpoints: m.Endpoints(), Datastore: m, CA: files.ServerCA.Cert, Cert: files.Client.Cert, Key: files.Client.Key},
		client:    plain(m.Client),
		shared:    true,
		members:   m,
	}
}

// peerAddress is where other servers reach this one's datastore: inside the
// network of the nodes.
func (p *parts) peerAddress() netip.Addr {
	if len(p.host.Addresses.Node) > 0 {
		return p.host.Addresses.Node[0]
	}
	return p.advertised()
}

func (p *parts) sqlite() datastore {
	d := sqlite.New(sqlite.Config{
		Path:            p.cfg.Layout.SQLite(),
		Socket:          p.cfg.Layout.KineSocket(),
		Settles:         true,
		SlowQuery:       p.cfg.Datastore.SlowQuery,
		CompactInterval: p.cfg.Datastore.CompactInterval,
	}, p.logs.For("sqlite"))
	return datastore{
		Component: d,
		etcd:      apiserver.EtcdConfig{Endpoints: d.Endpoints(), Datastore: d},
		client:    plain(d.Client),
		settle:    d.Settle,
		metrics:   d.Metrics(),
	}
}

func (p *parts) external() (datastore, error) {
	c := p.cfg.Datastore
	d, err := external.New(external.Config{
		Endpoint: c.Endpoint.Reveal(),
		CAFile:   c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Socket:          p.cfg.Layout.KineSocket(),
		SlowQuery:       c.SlowQuery,
		CompactInterval: c.CompactInterval,
		MaxOpen:         c.MaxOpen,
	}, p.logs.For("datastore"))
	if err != nil {
		return datastore{}, err
	}
	etcd := apiserver.EtcdConfig{Endpoints: d.Endpoints()}
	if d.TLS() {
		etcd.CA, etcd.Cert, etcd.Key = c.CAFile, c.CertFile, c.KeyFile
	}
	return datastore{Component: d, etcd: etcd, client: d.Client, metrics: d.Metrics(), shared: true}, nil
}

// plain is a client of etcd's own kind, by which Skiff keeps what is its own.
func plain(client func() (*kubernetes.Client, error)) func() (*clientv3.Client, error) {
	return func() (*clientv3.Client, error) {
		c, err := client()
		if err != nil {
			return nil, err
		}
		return c.Client, nil
	}
}

// durability ends the time in which a new datastore need not flush each write.
func durability(d datastore) component.Component {
	return component.Func("durability", func(ctx context.Context, ready func()) error {
		if err := d.settle(ctx); err != nil {
			return err
		}
		ready()
		<-ctx.Done()
		return nil
	})
}
