package hostaddr

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// settleFile is how long a file has to rest: it is written in several steps.
const settleFile = 200 * time.Millisecond

// WatchResolvers sends the host's name servers whenever they differ from the
// last ones, at first from current, as when a laptop changes networks. It
// sleeps in the kernel until one of the files that FindResolvers reads
// changes. The channel is closed when ctx ends.
func WatchResolvers(ctx context.Context, cfg ResolverConfig, current Resolvers, log *logrus.Entry) (<-chan Resolvers, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching the name servers (sysctl fs.inotify.max_user_instances may be too low): %w", err)
	}
	w := &resolverWatch{cfg: cfg, current: current, watcher: watcher, log: log, changes: make(chan Resolvers)}
	w.addPaths()
	go w.run(ctx)
	return w.changes, nil
}

type resolverWatch struct {
	cfg     ResolverConfig
	current Resolvers
	watcher *fsnotify.Watcher
	log     *logrus.Entry
	changes chan Resolvers
}

func (w *resolverWatch) run(ctx context.Context) {
	defer close(w.changes)
	defer w.watcher.Close()
	// What happened before the watch counts too.
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case event, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if slices.Contains(w.files(), event.Name) {
				rest.Reset(settleFile)
			}
		case err, ok := <-w.watcher.Errors:
			if !ok {
				return
			}
			w.log.WithError(err).Debug("Watching the name servers")
			rest.Reset(settleFile) // events may have been lost
		case <-rest.C:
			w.addPaths()
			if !w.look(ctx) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// look sends what changed; it says false when ctx has ended.
func (w *resolverWatch) look(ctx context.Context) bool {
	next, err := FindResolvers(w.cfg)
	if err != nil {
		w.log.WithError(err).Warn("Keeping the name servers there were")
		return true
	}
	if next.Equal(w.current) {
		return true
	}
	w.current = next
	select {
	case w.changes <- next:
		return true
	case <-ctx.Done():
		return false
	}
}

// files are those whose change matters, and what they are links to.
func (w *resolverWatch) files() []string {
	list := []string{w.cfg.Path}
	if w.cfg.Path == "" {
		list = append([]string{hostResolvConf}, behindStubs...)
	}
	var files []string
	for _, path := range list {
		path = w.cfg.file(path)
		files = append(files, path)
		if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			files = append(files, target)
		}
	}
	return files
}

// addPaths watches directories, because files are replaced by renaming, and
// the files too, because a container's is mounted and not seen by its
// directory. What is not there cannot be watched; most hosts have one of them.
func (w *resolverWatch) addPaths() {
	for _, path := range w.files() {
		for _, p := range []string{filepath.Dir(path), path} {
			if err := w.watcher.Add(p); err != nil {
				w.log.WithError(err).Debugf("Not watching %s", p)
			}
		}
	}
}
