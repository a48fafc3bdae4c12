package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// offlineKeeper is for a server that does not run.
func offlineKeeper(cfg config.Server, source func() (*clientv3.Client, error)) (*snapshot.Keeper, error) {
	node, err := agent.Identify(cfg.Node, cfg.Layout)
	if err != nil {
		return nil, err
	}
	cfg.Node = node
	log := logrus.New()
	log.SetOutput(io.Discard) // what is to be said, errors say
	return newKeeper(cfg, source, func() string {
		t, _ := token.Read("", cfg.Layout.ServerToken()) // without one, nothing can be sealed, and Seal says so
		return t.Secret()
	}, bucket, logrus.NewEntry(log))
}

// offline is a server's snapshots while it does not run.
type offline struct {
	*snapshot.Keeper
	cfg config.Server
}

// Snapshots are those of a server that does not run.
func Snapshots(cfg config.Server) (snapshot.Service, error) {
	k, err := offlineKeeper(cfg, nil)
	if err != nil {
		return nil, err
	}
	return &offline{Keeper: k, cfg: cfg}, nil
}

// Save runs the datastore alone, for as long as the snapshot takes.
func (o *offline) Save(ctx context.Context, prefix string, report func(snapshot.Progress)) ([]snapshot.Info, error) {
	unlock, err := own(o.cfg.Layout)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return saveOffline(ctx, o.cfg, prefix, report)
}

// saveOffline is Save for who owns the data directory.
func saveOffline(ctx context.Context, cfg config.Server, prefix string, report func(snapshot.Progress)) (all []snapshot.Info, err error) {
	if !exists(cfg.Layout.ServerToken()) {
		return nil, fmt.Errorf("there is no cluster in %s: name its directory with --data-dir", cfg.Layout.Data)
	}
	if err := unfinished(cfg.Layout); err != nil {
		return nil, err
	}
	logs, err := logging.New(config.Logging{Format: "text"}, io.Discard)
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	p := &parts{cfg: cfg, logs: logs}
	var store datastore
	if datastoreKind(cfg) == config.DatastoreEtcd {
		copied, err := copyEtcd(cfg.Layout)
		defer os.RemoveAll(copied)
		if err != nil {
			return nil, fmt.Errorf("copying the data of the embedded etcd, to read it: %w", err)
		}
		store = p.etcdAlone(copied)
	} else if store, err = p.datastore(); err != nil {
		return nil, err
	}
	return saveFrom(ctx, cfg, store, prefix, report)
}

// saveFrom runs a datastore and saves what is in it.
func saveFrom(ctx context.Context, cfg config.Server, store datastore, prefix string, report func(snapshot.Progress)) (all []snapshot.Info, err error) {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- store.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		return nil, err
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	k, err := offlineKeeper(cfg, store.client)
	if err != nil {
		return nil, err
	}
	return k.Save(ctx, prefix, report)
}

// copyEtcd copies a member's data: reading them alone changes them.
func copyEtcd(l layout.Layout) (dir string, err error) {
	dir = l.Restoring().Etcd()
	if err := os.RemoveAll(dir); err != nil {
		return dir, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dir, err
	}
	return dir, os.CopyFS(dir, os.DirFS(l.Etcd()))
}

// etcdAlone is a copy of this server's member without the others.
func (p *parts) etcdAlone(dir string) datastore {
	m := etcd.New(etcd.Config{
		Dir: dir, Node: p.cfg.Node.Name, Alone: true, Address: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		Files: pki.EtcdFilesOf(p.cfg.Layout), Args: p.cfg.Datastore.Etcd.Extra, Zap: p.logs.Zap("etcd"),
	}, p.logs.For("etcd"))
	return datastore{Component: m, client: plain(m.Client)}
}

// Reset makes this server, which does not run, the only one of its cluster:
// with the state of a snapshot, if one is named, else with that of its own
// member of the embedded etcd. That too is saved first and restored then: the
// others may have acknowledged more than this member has, and whoever has seen
// it must look again.
func Reset(ctx context.Context, cfg config.Server, name string, report func(snapshot.Progress)) (snapshot.Restored, error) {
	unlock, err := own(cfg.Layout)
	if err != nil {
		return snapshot.Restored{}, err
	}
	defer unlock()
	if name == "" {
		if datastoreKind(cfg) != config.DatastoreEtcd || !etcd.Exists(cfg.Layout.Etcd()) {
			return snapshot.Restored{}, fmt.Errorf("there is no member of an embedded etcd in %s: only a server that was one of several can be made the only one", cfg.Layout.Etcd())
		}
		cfg.Snapshots.S3.Enable = false // a way back must not depend on another machine
		saved, err := saveOffline(ctx, cfg, "cluster-reset", report)
		if err != nil {
			return snapshot.Restored{}, fmt.Errorf("saving the state of this server: %w", err)
		}
		name = saved[0].Location
	}
	return restoreOwned(ctx, cfg, snapshot.Restore{Name: name, Report: report})
}
