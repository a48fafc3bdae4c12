package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/daemon"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/datastore/sqlite"
	"github.com/skiff-k8s/skiff/pkg/internal/lockfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// revisionGap is how far the revision of a restored datastore is ahead of the
// snapshot's: more than any cluster has written since then, so that nobody who
// watched it has seen a revision that means something else now.
const revisionGap = 1_000_000_000

// Restore replaces the state of a server that does not run by that of a
// snapshot. Nothing is changed before all of the new state is on the disk, and
// what it replaces is kept.
func Restore(ctx context.Context, cfg config.Server, wanted snapshot.Restore) (snapshot.Restored, error) {
	unlock, err := own(cfg.Layout)
	if err != nil {
		return snapshot.Restored{}, err
	}
	defer unlock()
	return restoreOwned(ctx, cfg, wanted)
}

// restoreOwned is Restore for who owns the data directory.
func restoreOwned(ctx context.Context, cfg config.Server, wanted snapshot.Restore) (_ snapshot.Restored, err error) {
	if cfg.Node, err = agent.Identify(cfg.Node, cfg.Layout); err != nil {
		return snapshot.Restored{}, err
	}
	file, err := locate(ctx, cfg, wanted.Name)
	if err != nil {
		return snapshot.Restored{}, err
	}
	keys, t, err := openKeys(cfg, file)
	if err != nil {
		return snapshot.Restored{}, err
	}
	into, err := target(cfg, file, wanted.Into)
	if err != nil {
		return snapshot.Restored{}, err
	}
	r := &restore{cfg: cfg, into: into, file: file, keys: keys, token: t, staged: cfg.Layout.Restoring(), report: wanted.Report}
	defer os.RemoveAll(r.staged.Data)
	if err := r.stage(); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("no space is left below %s (%w): free some", cfg.Layout.Data, err)
		}
		return snapshot.Restored{}, fmt.Errorf("preparing the state of the snapshot %s: %w; nothing was changed", file.Path, err)
	}
	kept, err := r.replace()
	if err != nil {
		return snapshot.Restored{}, err
	}
	return snapshot.Restored{Snapshot: file.Metadata, File: file.Path, Into: string(into), Kept: kept}, nil
}

// own makes a data directory this process' alone, for as long as no server runs.
func own(l layout.Layout) (unlock func(), err error) {
	if err := daemon.MakeDirectories(l, true); err != nil {
		return nil, err
	}
	lock, err := lockfile.Acquire(l.Lock())
	var held *lockfile.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("skiff is running (pid %d) and uses %s: stop it first, with systemctl stop skiff or by ending that process", held.PID, held.Dir)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Release() }, nil
}

// locate finds a snapshot and looks at all of it.
func locate(ctx context.Context, cfg config.Server, name string) (*snapshot.File, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return snapshot.Open(name)
	}
	k, err := offlineKeeper(cfg, nil)
	if err != nil {
		return nil, err
	}
	path, err := k.Find(ctx, name)
	if err != nil {
		if _, here := os.Stat(name); here == nil {
			path, err = name, nil // a file of the working directory
		}
	}
	if err != nil {
		return nil, err
	}
	return snapshot.Open(path)
}

// target is the datastore that is filled: the one that was asked for, else what
// this server has or is told to have, else, on a server that is told nothing,
// what the snapshot is of.
func target(cfg config.Server, file *snapshot.File, asked string) (config.DatastoreKind, error) {
	kind := datastoreKind(cfg)
	switch {
	case asked != "":
		return config.DatastoreKind(asked), nil
	case kind == config.DatastoreExternal:
		return "", errors.New("an external database is restored by its own tools: a snapshot goes into a datastore of Skiff's. Leave datastore-endpoint out of the settings and say --into sqlite or --into etcd")
	case kind == config.DatastoreSQLite && !exists(cfg.Layout.SQLite()) && file.Datastore == string(config.DatastoreEtcd):
		return config.DatastoreEtcd, nil
	}
	return kind, nil
}

// openKeys opens the cluster's keys in a snapshot, by the token that was given
// or, on a server of that cluster, by its own.
func openKeys(cfg config.Server, file *snapshot.File) (bootstrap.Data, token.Token, error) {
	fail := func(err error) (bootstrap.Data, token.Token, error) { return bootstrap.Data{}, token.Token{}, err }
	given, err := token.Read(cfg.Join.Token.Reveal(), cfg.Join.TokenFile)
	if err != nil {
		return fail(fmt.Errorf("--token: %w", err))
	}
	which := "the token that was given"
	if given.Secret() == "" {
		which = "the token in " + cfg.Layout.ServerToken()
		given, err = token.Read("", cfg.Layout.ServerToken())
		if errors.Is(err, os.ErrNotExist) || err != nil && !exists(cfg.Layout.ServerToken()) {
			return fail(fmt.Errorf("the snapshot %s is sealed with the server token of its cluster, and there is none on this machine: give it with --token or --token-file; it was in %s of the servers", file.Name, cfg.Layout.ServerToken()))
		}
		if err != nil {
			return fail(err)
		}
	}
	const fix = "give the server token that the cluster had when the snapshot was made, with --token or --token-file"
	if given.Bootstrap() {
		return fail(fmt.Errorf("%s is a bootstrap token, which opens no snapshot: %s", which, fix))
	}
	data, err := bootstrap.Open(given.Secret(), file.Sealed)
	if hash := given.Hash(); errors.Is(err, bootstrap.ErrToken) && hash != "" && hash != file.Cluster {
		return fail(fmt.Errorf("%s is of another cluster (its CA has the hash %.12s..., the snapshot's has %.12s...): %s", which, hash, file.Cluster, fix))
	}
	if errors.Is(err, bootstrap.ErrToken) {
		return fail(fmt.Errorf("%s does not open the snapshot %s, which nothing was done with: %s", which, file.Path, fix))
	}
	if err != nil {
		return fail(fmt.Errorf("opening the cluster's keys in the snapshot %s: %w", file.Path, err))
	}
	return data, token.Password("", token.UserServer, given.Secret()), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// restore is one restore.
type restore struct {
	cfg    config.Server
	into   config.DatastoreKind
	file   *snapshot.File
	keys   bootstrap.Data
	token  token.Token
	staged layout.Layout
	report func(snapshot.Progress)
}

// stage makes all files that are to be a server's, in a directory beside.
func (r *restore) stage() error {
	if err := os.RemoveAll(r.staged.Data); err != nil {
		return err
	}
	if err := r.keys.Write(r.staged); err != nil {
		return err
	}
	if _, err := token.Open(r.staged, r.keys.Get(bootstrap.ServerCA), token.Given{Server: r.token}); err != nil {
		return err
	}
	return r.fill()
}

// fill makes the datastore.
func (r *restore) fill() error {
	records := snapshot.Watched(r.file, r.report)
	from := r.file.Revision + revisionGap
	if r.into == config.DatastoreEtcd {
		return etcd.Fill(r.staged.Etcd(), r.cfg.Node.Name, from, records)
	}
	return sqlite.Fill(r.staged.SQLite(), from, records)
}
