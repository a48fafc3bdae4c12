package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// Remote is a place beside the directory.
type Remote interface {
	// Put uploads a file under a snapshot's name.
	Put(ctx context.Context, f *File) (Info, error)
	// List gives what is there, in any order.
	List(ctx context.Context) ([]Info, error)
	// Get downloads a snapshot into a file; found is false when there is none.
	Get(ctx context.Context, name string, to *os.File) (found bool, err error)
	Delete(ctx context.Context, name string) (found bool, err error)
	// String is its URL.
	String() string
}

// Config is what a Keeper is told.
type Config struct {
	Directory string
	// Remote opens the second place, at each use: its credentials may change.
	// nil: there is none.
	Remote func(context.Context) (Remote, error)
	// Prefix begins the names of the snapshots that the schedule makes.
	Prefix string
	// Retention is how many of them stay, of each node, and RemoteRetention
	// how many in the second place; 0: all.
	Retention, RemoteRetention int
	// About is what the metadata of every snapshot says.
	About Metadata
	// Source gives a client of the datastore; nil for a Keeper that saves
	// nothing.
	Source func() (*clientv3.Client, error)
	Keys   Keys
	// Gather reads the cluster's keys, and Seal seals them for the metadata.
	Gather func() (bootstrap.Data, error)
	Seal   func(bootstrap.Data) ([]byte, error)
}

// OnDemand is the prefix of snapshots that nobody gave a name.
const OnDemand = "on-demand"

// Service is what can be done with snapshots: by a Keeper, in the process that
// has it, or by a Client, through the socket of a running server.
type Service interface {
	Save(ctx context.Context, prefix string, report func(Progress)) ([]Info, error)
	List(ctx context.Context) ([]Info, error)
	Delete(ctx context.Context, name string) ([]Info, error)
	Prune(ctx context.Context, prefix string, keep int) ([]Info, error)
}

// Keeper makes and keeps snapshots. It is safe for concurrent use.
type Keeper struct {
	cfg Config
	dir Directory
	log *logrus.Entry
	now func() time.Time

	saving  sync.Mutex // one at a time
	changed chan struct{}
	counts  *counters
}

var _ Service = (*Keeper)(nil)

// New makes a Keeper.
func New(cfg Config, log *logrus.Entry) *Keeper {
	return &Keeper{cfg: cfg, dir: Directory{cfg.Directory}, log: log, now: time.Now, changed: make(chan struct{}, 1), counts: newCounters()}
}

// Save makes a snapshot now, in the directory and in the second place, and gives
// where it is. A copy that could not be uploaded is an error; the one in the
// directory is there nevertheless, and given.
func (k *Keeper) Save(ctx context.Context, prefix string, report func(Progress)) ([]Info, error) {
	if prefix == "" {
		prefix = OnDemand
	}
	if err := config.CheckSnapshotName(prefix); err != nil {
		return nil, err
	}
	if k.cfg.Source == nil {
		return nil, errors.New("the datastore is not open")
	}
	k.saving.Lock()
	defer k.saving.Unlock()
	defer k.touch()
	all, err := k.saveAll(ctx, prefix, report)
	if err != nil {
		k.counts.failures.Inc()
		return all, err
	}
	k.counts.saved(all[0], k.now())
	return all, nil
}

func (k *Keeper) saveAll(ctx context.Context, prefix string, report func(Progress)) ([]Info, error) {
	name, at := k.free(prefix, k.now())
	local, err := k.save(ctx, name, at, report)
	if err != nil {
		return nil, err
	}
	all := []Info{local}
	remote, err := k.upload(ctx, local)
	if err != nil {
		return all, fmt.Errorf("the snapshot is in %s, but could not be uploaded: %w", local.Location, err)
	}
	if remote != nil {
		all = append(all, *remote)
	}
	return all, nil
}

// free is a name that no file has yet, and the time in it: names tell seconds
// apart.
func (k *Keeper) free(prefix string, at time.Time) (string, time.Time) {
	for {
		name := NameOf(prefix, k.cfg.About.Node, at)
		if _, taken := k.dir.find(name); !taken {
			return name, at
		}
		at = at.Add(time.Second)
	}
}

func (k *Keeper) save(ctx context.Context, name string, at time.Time, report func(Progress)) (Info, error) {
	from, err := k.cfg.Source()
	if err != nil {
		return Info{}, err
	}
	defer from.Close()
	m := k.cfg.About
	m.Name, m.Created = name, at.UTC().Truncate(time.Second)
	for attempt := 1; ; attempt++ {
		path, err := k.dir.create(name, func(f *os.File) error { return k.write(ctx, f, from, m, report) })
		if err == nil {
			return k.dir.info(nameOfFile(path)), nil
		}
		if !overtaken(err) || attempt == attempts {
			return Info{}, err
		}
		k.log.WithError(err).Infof("Beginning again with the snapshot %s", name)
	}
}

// write writes the keys and objects that belong together: Secrets may be
// encrypted by keys of the cluster, which may be changed meanwhile.
func (k *Keeper) write(ctx context.Context, f *os.File, from clientv3.KV, m Metadata, report func(Progress)) error {
	keys, err := k.cfg.Gather()
	if err != nil {
		return err
	}
	if m.Cluster, err = token.HashCA(keys.Get(bootstrap.ServerCA)); err != nil {
		return err
	}
	if m.Sealed, err = k.cfg.Seal(keys); err != nil {
		return err
	}
	w, err := NewWriter(f)
	if err != nil {
		return err
	}
	begun := func() error {
		now, err := k.cfg.Gather()
		if err == nil && now.Digest() != keys.Digest() {
			err = errKeysChanged
		}
		return err
	}
	if m.Revision, err = dump(ctx, from, k.cfg.Keys, w, begun, newReporter(report)); err != nil {
		w.Abandon()
		return err
	}
	_, err = w.Close(m)
	return err
}

func nameOfFile(path string) string { return strings.TrimSuffix(filepath.Base(path), Suffix) }

func (k *Keeper) upload(ctx context.Context, local Info) (*Info, error) {
	if k.cfg.Remote == nil {
		return nil, nil
	}
	remote, err := k.cfg.Remote(ctx)
	if err != nil {
		return nil, err
	}
	// What is on the disk is what is sent: read it once more.
	f, err := Open(local.Location)
	if err != nil {
		return nil, err
	}
	info, err := remote.Put(ctx, f)
	if err != nil {
		return nil, err
	}
	return &info, nil
}

// List gives all copies, the newest first. When the second place cannot be
// reached those of the directory are given with the error.
func (k *Keeper) List(ctx context.Context) ([]Info, error) {
	all, err := k.dir.List(ctx)
	if err != nil || k.cfg.Remote == nil {
		return all, err
	}
	remote, err := k.cfg.Remote(ctx)
	if err != nil {
		return all, err
	}
	there, err := remote.List(ctx)
	all = append(all, there...)
	slices.SortStableFunc(all, newestFirst)
	return all, err
}

// Delete removes all copies of a snapshot and gives them.
func (k *Keeper) Delete(ctx context.Context, name string) ([]Info, error) {
	all, err := k.List(ctx)
	name = strings.TrimSuffix(name, Suffix)
	all = slices.DeleteFunc(all, func(i Info) bool { return i.Name != name })
	if len(all) == 0 {
		if err == nil {
			err = fmt.Errorf("there is no snapshot %s: skiff snapshot list shows those there are", name)
		}
		return nil, err
	}
	defer k.touch()
	gone, failed := k.remove(ctx, all)
	return gone, errors.Join(failed, err)
}

// remove deletes copies and gives those that are gone.
func (k *Keeper) remove(ctx context.Context, all []Info) (gone []Info, err error) {
	var remote Remote
	for _, i := range all {
		var failed error
		if i.Place == Local {
			_, failed = k.dir.Delete(ctx, i.Name)
		} else {
			if remote == nil {
				if remote, failed = k.cfg.Remote(ctx); failed != nil {
					return gone, errors.Join(err, failed)
				}
			}
			_, failed = remote.Delete(ctx, i.Name)
		}
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		gone = append(gone, i)
	}
	return gone, err
}

// Prune deletes this node's oldest snapshots of a prefix, but for the newest
// ones, in each place by itself. An empty prefix is the schedule's; keep below
// zero is what was configured.
func (k *Keeper) Prune(ctx context.Context, prefix string, keep int) ([]Info, error) {
	if prefix == "" {
		prefix = k.cfg.Prefix
	}
	all, err := k.List(ctx)
	old := surplus(all, prefix, k.cfg.About.Node, func(p Place) int {
		configured := k.cfg.Retention
		if p == S3 {
			configured = k.cfg.RemoteRetention
		}
		switch {
		case keep >= 0:
			return keep
		case configured == 0:
			return math.MaxInt
		}
		return configured
	})
	if len(old) == 0 {
		return nil, err
	}
	defer k.touch()
	gone, failed := k.remove(ctx, old)
	return gone, errors.Join(err, failed)
}

// surplus are the copies of a series beyond the newest ones of each place.
func surplus(newestFirst []Info, prefix, node string, keep func(Place) int) (old []Info) {
	kept := map[Place]int{}
	for _, i := range newestFirst {
		if _, ours := ofSeries(i.Name, prefix, node); !ours {
			continue
		}
		if kept[i.Place]++; kept[i.Place] > keep(i.Place) {
			old = append(old, i)
		}
	}
	return old
}

// touch tells who shows the snapshots that they have changed.
func (k *Keeper) touch() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Find gives the path of a snapshot by its name, after downloading it from the
// second place when the directory does not have it.
func (k *Keeper) Find(ctx context.Context, name string) (path string, err error) {
	name = strings.TrimSuffix(name, Suffix)
	if path, ok := k.dir.find(name); ok {
		return path, nil
	}
	missing := fmt.Errorf("there is no snapshot %s in %s", name, k.dir.Path)
	if err := config.CheckSnapshotName(name); k.cfg.Remote == nil || err != nil {
		return "", fmt.Errorf("%w: give its path, or the settings of the S3 bucket that has it (--s3, --s3-bucket, ...)", missing)
	}
	remote, err := k.cfg.Remote(ctx)
	if err != nil {
		return "", err
	}
	return k.dir.create(name, func(f *os.File) error {
		found, err := remote.Get(ctx, name, f)
		if err == nil && !found {
			err = fmt.Errorf("%w, nor in %s", missing, remote)
		}
		return err
	})
}
