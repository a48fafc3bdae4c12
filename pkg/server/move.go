package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/datastore/sqlite"
	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// moveToEtcd takes a cluster from SQLite to the embedded etcd, when that is
// asked for. Every object keeps its resource version, and the next ones go on
// from there. The database is kept under another name; until all is on the disk
// it stays what it is, and a move that was cut short begins anew.
func (p *parts) moveToEtcd() error {
	l := p.cfg.Layout
	if !p.cfg.Datastore.ClusterInit || !exists(l.SQLite()) {
		return nil
	}
	log := p.logs.For("etcd")
	if !etcd.Exists(l.Etcd()) {
		log.Info("Moving the cluster's state from SQLite to the embedded etcd")
		if err := p.fillEtcd(); err != nil {
			return fmt.Errorf("moving the cluster's state from SQLite to etcd: %w; nothing has changed, and without --cluster-init the server starts as before", err)
		}
	}
	aside := l.SQLite() + ".moved-" + time.Now().UTC().Format("20060102-150405")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(l.SQLite()+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keeping the SQLite database under another name: %w", err)
		}
	}
	log.Infof("The state is in etcd now; what it was in SQLite is kept in %s", aside)
	return atomicfile.SyncDir(l.Database())
}

func (p *parts) fillEtcd() (err error) {
	l := p.cfg.Layout
	from, err := sqlite.OpenExport(l.SQLite(), p.logs.For("sqlite"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	staged := l.Etcd() + ".new"
	if err := os.RemoveAll(staged); err != nil {
		return err
	}
	if err := etcd.Fill(staged, p.cfg.Node.Name, from.Revision()+1, from.Keys()); err != nil {
		return err
	}
	if err := os.RemoveAll(l.Etcd()); err != nil { // there is no member in it
		return err
	}
	if err := os.Rename(staged, l.Etcd()); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(l.Etcd()))
}
