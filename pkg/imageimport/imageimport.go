// Package imageimport brings image archives from a directory into containerd,
// at start and whenever one is put there, so that a node needs no registry. The
// images are protected from the kubelet's garbage collection for as long as
// their archive stays. The wiring packages import it; it reaches containerd by
// what its constructor is given.
//
// An archive is a docker-archive or an OCI layout as .tar, .tar.gz, .tgz,
// .tar.zst or .tzst. Names that begin with a dot and other endings (.part,
// .tmp) are left alone, so that a copying tool's temporary names do no harm.
package imageimport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config says what is imported from where.
type Config struct {
	// Namespace is containerd's namespace that the images go to.
	Namespace string
	// Directory is watched for archives. It is made if it is missing.
	Directory string
	// PauseArchive is imported before the component is ready. Empty: nothing
	// is waited for.
	PauseArchive string
	// Record is the file that remembers what was imported, so that unchanged
	// archives are not read again at the next start.
	Record string
	// Snapshotter is where layers are unpacked to.
	Snapshotter string
}

// Runtime is the containerd that gets the images.
type Runtime struct {
	Client *client.Client
	// RefreshImage makes the CRI see a new or changed image at once.
	RefreshImage func(ctx context.Context, reference string) error
}

// Component imports archives. It is ready when the pause image is there.
type Component struct {
	cfg     Config
	runtime func(context.Context) (Runtime, error)
	log     *logrus.Entry
}

var _ component.Component = (*Component)(nil)

// New returns the component "images". runtime may block until containerd is
// ready.
func New(cfg Config, runtime func(context.Context) (Runtime, error), log *logrus.Entry) *Component {
	return &Component{cfg: cfg, runtime: runtime, log: log}
}

// Name implements component.Component.
func (c *Component) Name() string { return "images" }

// Run implements component.Component.
func (c *Component) Run(ctx context.Context, ready func()) error {
	rt, err := c.runtime(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	// Not every service of the client has the client's default.
	ctx = namespaces.WithNamespace(ctx, c.cfg.Namespace)
	s := &store{Runtime: rt, snapshotter: c.cfg.Snapshotter, log: c.log}
	rec, err := loadRecord(c.cfg.Record)
	if err != nil {
		c.log.WithError(err).Warn("image archives are imported again: what was imported before is not known")
	}
	im := &importer{cfg: c.cfg, store: s, record: rec, failed: map[string]stamp{}, log: c.log}
	if c.cfg.PauseArchive != "" {
		if err := im.pause(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
	if err := os.MkdirAll(c.cfg.Directory, 0o755); err != nil {
		return fmt.Errorf("create the images directory: %w", err)
	}
	w, err := watch(c.cfg.Directory)
	if err != nil {
		return err
	}
	ready()
	return im.follow(ctx, w)
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// importer owns the record. It is used by one goroutine.
type importer struct {
	cfg    Config
	store  *store
	record record
	// failed remembers broken archives, so that each is reported once.
	failed map[string]stamp
	log    *logrus.Entry
}

// pause imports the pause image. Without it no pod starts, so that a failure
// here is one of the component.
func (im *importer) pause(ctx context.Context) error {
	at, err := stampOf(im.cfg.PauseArchive)
	if err != nil {
		return fmt.Errorf("find the pause image: %w", err)
	}
	if im.known(ctx, im.cfg.PauseArchive, at) {
		return nil
	}
	images, err := im.store.importArchive(ctx, im.cfg.PauseArchive)
	if err != nil {
		return fmt.Errorf("import the pause image: %w", err)
	}
	im.record.Archives[im.cfg.PauseArchive] = archive{Stamp: at, Images: images}
	return im.record.save(im.cfg.Record)
}

// settle is how long an archive must have been left alone before it is read.
// Some tools open and close a file several times.
const settle = 300 * time.Millisecond

// follow imports what is in the directory and then what changes there.
func (im *importer) follow(ctx context.Context, w *watcher) error {
	events := make(chan struct{}, 1)
	failure := make(chan error, 1)
	go func() { failure <- w.run(events) }()
	defer func() {
		w.close()
		<-failure
	}()
	im.scan(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failure:
			failure <- nil
			return fmt.Errorf("watch %s: %w", im.cfg.Directory, err)
		case <-events:
		}
		if !quiet(ctx, events) {
			return nil
		}
		im.scan(ctx)
	}
}

// quiet waits until there was no event for settle. It is false when ctx ended.
func quiet(ctx context.Context, events <-chan struct{}) bool {
	t := time.NewTimer(settle)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-events:
			t.Reset(settle)
		case <-t.C:
			return true
		}
	}
}

// scan makes containerd hold what the directory holds.
func (im *importer) scan(ctx context.Context) {
	present, err := archives(im.cfg.Directory)
	if err != nil {
		im.log.WithError(err).Error("cannot list image archives")
		return
	}
	present[im.cfg.PauseArchive] = im.record.Archives[im.cfg.PauseArchive].Stamp
	changed := im.forget(ctx, present)
	for _, path := range sorted(present) {
		if ctx.Err() != nil {
			break
		}
		changed = im.one(ctx, path, present[path]) || changed
	}
	if !changed {
		return
	}
	if err := im.record.save(im.cfg.Record); err != nil {
		im.log.WithError(err).Warn("image archives will be imported again at the next start")
	}
}

// one imports an archive unless that was done. It says whether the record
// changed.
func (im *importer) one(ctx context.Context, path string, at stamp) bool {
	if path == im.cfg.PauseArchive || im.failed[path] == at || im.known(ctx, path, at) {
		return false
	}
	if beingWritten(path) {
		// Its being closed is an event of its own.
		return false
	}
	began := time.Now()
	images, err := im.store.importArchive(ctx, path)
	if now, statErr := stampOf(path); statErr != nil || now != at {
		// It is still being written or was taken away: the end of that is an
		// event of its own.
		return false
	}
	log := im.log.WithField("archive", path)
	if err != nil {
		if ctx.Err() == nil {
			im.failed[path] = at
			log.WithError(err).Error("cannot import the image archive: replace or remove it; other archives are not affected")
		}
		return false
	}
	delete(im.failed, path)
	old := im.record.Archives[path].Images
	im.record.Archives[path] = archive{Stamp: at, Images: images}
	im.release(ctx, old)
	log.WithField("images", names(images)).WithField("took", time.Since(began).Round(time.Millisecond)).Info("imported images")
	return true
}

// known says whether this very archive was imported and its images are all
// still there.
func (im *importer) known(ctx context.Context, path string, at stamp) bool {
	a, ok := im.record.Archives[path]
	return ok && a.Stamp == at && im.store.holds(ctx, a.Images)
}

// forget drops archives that are gone and gives their images back to garbage
// collection.
func (im *importer) forget(ctx context.Context, present map[string]stamp) bool {
	changed := false
	for path, a := range im.record.Archives {
		if _, ok := present[path]; ok {
			continue
		}
		delete(im.record.Archives, path)
		delete(im.failed, path)
		im.release(ctx, a.Images)
		im.log.WithField("archive", path).Info("image archive is gone; its images may be removed when unused")
		changed = true
	}
	return changed
}

// release unpins images that no archive holds any more.
func (im *importer) release(ctx context.Context, images []image) {
	held := map[string]bool{}
	for _, a := range im.record.Archives {
		for _, i := range a.Images {
			held[i.Name] = true
		}
	}
	for _, i := range images {
		if held[i.Name] {
			continue
		}
		if err := im.store.unpin(ctx, i.Name); err != nil && !errors.Is(err, context.Canceled) {
			im.log.WithError(err).WithField("image", i.Name).Warn("the image stays protected from garbage collection")
		}
	}
}

// archives lists what is to be imported, by path.
func archives(dir string) (map[string]stamp, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]stamp{}
	for _, e := range entries {
		if !isArchive(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		at, err := stampOf(path)
		if err != nil || at.Dir {
			continue
		}
		found[path] = at
	}
	return found, nil
}
