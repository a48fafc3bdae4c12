// Package forgetfs is a file system that loses at a power cut what was not
// flushed to it, as a disk does. Tests mount it for processes that they start:
// whoever serves it must not use it, since a page fault would wait for itself. It
// imports nothing of ours.
//
// What changes in one directory is kept in order, as by a file system with a
// journal: a cut leaves all changes up to some moment, so that a rename happens
// whole or not at all. What was written to files is not: of that a cut leaves any
// part. Modes are kept at once, owners are always root, and nothing moves between
// directories.
package forgetfs

import (
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is the file system. Its content outlives being mounted.
type Disk struct {
	// delay is what each flush takes, in nanoseconds.
	delay atomic.Int64

	mu   sync.Mutex
	root *directory
}

// Slow has each flush take at least so long from now on.
func (d *Disk) Slow(flush time.Duration) { d.delay.Store(int64(flush)) }

func (d *Disk) wait() { time.Sleep(time.Duration(d.delay.Load())) }

// New makes an empty disk.
func New() *Disk {
	d := new(Disk)
	d.root = newDirectory(d, nil, 0o700)
	return d
}

// Mount shows the disk at a directory until unmount.
func (d *Disk) Mount(at string) (unmount func() error, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root.forgetInodes()
	server, err := fs.Mount(at, d.root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "forgetfs", Name: "forgetfs", AllowOther: true},
		OnAdd:        d.root.show,
	})
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", at, err)
	}
	return server.Unmount, nil
}

// Cut is a power cut; the disk must not be mounted. Of what was not flushed each
// write is there afterwards with the probability luck, in any combination, and, if
// luck is not 0, each directory as it was at some moment since it was flushed.
func (d *Disk) Cut(luck float64, random *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root.cut(luck, random)
}

// Files gives the content of all files by their paths.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	d.root.walk("", func(path string, f *file) { files[path] = append([]byte{}, f.data...) })
	return files
}

// Load puts files into the root, flushed, in place of all that was there.
func (d *Disk) Load(files map[string][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root = newDirectory(d, nil, 0o700)
	for name, data := range files {
		f := &file{disk: d, parent: d.root, mode: 0o600, data: append([]byte{}, data...)}
		d.root.put(name, f)
		f.flush()
	}
}

// entry is what a directory holds: a file, a directory or a link.
type entry interface {
	fs.InodeEmbedder
	attributes(*fuse.Attr)
	forgetInodes()
	cut(luck float64, random *rand.Rand)
}

func (r *directory) walk(at string, visit func(string, *file)) {
	for name, e := range r.entries {
		switch e := e.(type) {
		case *file:
			visit(path.Join(at, name), e)
		case *directory:
			e.walk(path.Join(at, name), visit)
		}
	}
}
