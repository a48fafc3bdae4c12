// Package registries tells containerd how to reach image registries: it
// watches registries.yaml, which has the schema of k3s', and keeps containerd's
// hosts directory in step with it. containerd reads that directory at each
// pull, so no change needs a restart. Only pkg/agent imports it.
package registries

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// settle is how long the file has to rest: editors write it in several steps.
const settle = 200 * time.Millisecond

// Config says where things are.
type Config struct {
	// File is registries.yaml; it may be missing.
	File string
	// HostsDir is containerd's hosts directory.
	HostsDir string
	// DisableDefaultEndpoint keeps containerd from asking a registry itself
	// when there are mirrors of it.
	DisableDefaultEndpoint bool
}

// Component keeps HostsDir in step with File. It is ready when containerd may
// pull.
type Component struct {
	cfg   Config
	first *document
	log   *logrus.Entry

	exposed bool // other users may read the passwords, as was said
}

// New reads the file. The error tells every problem of it at once, one per
// line, and has no secret in it.
func New(cfg Config, log *logrus.Entry) (*Component, error) {
	first, err := read(cfg.File)
	if err != nil {
		return nil, err
	}
	return &Component{cfg: cfg, first: first, log: log}, nil
}

// Name is "registries".
func (c *Component) Name() string { return "registries" }

// Run writes the hosts directory, and again whenever the file changes. A file
// that has problems changes nothing.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(filepath.Dir(c.cfg.File), 0o755); err != nil {
		return fmt.Errorf("making the directory of the registries' configuration: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching %s (sysctl fs.inotify.max_user_instances may be too low): %w", c.cfg.File, err)
	}
	defer watcher.Close()
	c.watch(watcher)
	if err := c.write(c.first); err != nil {
		return err
	}
	ready()
	// What changed between New and the watch counts too.
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case event := <-watcher.Events:
			if slices.Contains(c.files(), event.Name) {
				rest.Reset(settle)
			}
		case err := <-watcher.Errors:
			c.log.WithError(err).Debug("Watching the registries' configuration")
			rest.Reset(settle) // events may have been lost
		case <-rest.C:
			c.watch(watcher)
			c.refresh()
		case <-ctx.Done():
			return nil
		}
	}
}

// refresh takes over what the file says now, if it is right.
func (c *Component) refresh() {
	next, err := read(c.cfg.File)
	if err == nil {
		err = c.write(next)
	}
	if err != nil {
		c.log.Warn("Keeping the registries there were: ", strings.ReplaceAll(err.Error(), "\n", " | "))
	}
}

func (c *Component) write(d *document) error {
	changed, err := writeHosts(c.cfg.HostsDir, d.render(!c.cfg.DisableDefaultEndpoint))
	if err != nil {
		return fmt.Errorf("writing containerd's list of registries: %w", err)
	}
	if len(changed) > 0 {
		c.log.Infof("How registries are reached has changed: %s", strings.Join(changed, ", "))
	}
	exposed := d.secret() && readableByOthers(c.cfg.File)
	if exposed && !c.exposed {
		c.log.Warnf("%s has passwords in it and other users may read it: chmod 600 %[1]s", c.cfg.File)
	}
	c.exposed = exposed
	return nil
}

// files are those whose change matters: the file, and what it is a link to.
func (c *Component) files() []string {
	files := []string{c.cfg.File}
	if target, err := filepath.EvalSymlinks(c.cfg.File); err == nil && target != c.cfg.File {
		files = append(files, target)
	}
	return files
}

// watch watches directories, because files are replaced by renaming.
func (c *Component) watch(w *fsnotify.Watcher) {
	for _, file := range c.files() {
		if err := w.Add(filepath.Dir(file)); err != nil {
			c.log.WithError(err).Warnf("Changes of %s will not be seen before a restart", file)
		}
	}
}

func read(path string) (*document, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return new(document), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of registries: %w", err)
	}
	return parse(path, data)
}

func readableByOthers(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
