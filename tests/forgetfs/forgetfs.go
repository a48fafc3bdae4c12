// Package forgetfs is a file system of one directory that loses at a power cut
// what was not flushed to it, as a disk does. Tests mount it for a child process
// of theirs: whoever serves it must not use it, since a page fault would wait for
// itself. It imports nothing of ours.
package forgetfs

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is the file system. Its content outlives being mounted.
type Disk struct {
	mu    sync.Mutex
	files map[string]*file
	// gone are files that were removed since the directory was flushed.
	gone map[string]*file
}

// New makes an empty disk.
func New() *Disk { return &Disk{files: map[string]*file{}, gone: map[string]*file{}} }

// file is one with what a flush has made last, and what came after it.
type file struct {
	fs.Inode
	disk *Disk
	mode uint32
	data []byte // as programs see it

	flushed []byte
	named   bool     // its name was flushed, too
	pending []change // since then
}

// change is a write, or, without data, a new size.
type change struct {
	at   int64
	data []byte
}

func (c change) apply(to []byte) []byte {
	if c.data == nil {
		return resize(to, c.at)
	}
	if end := c.at + int64(len(c.data)); end > int64(len(to)) {
		to = resize(to, end)
	}
	copy(to[c.at:], c.data)
	return to
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

func (f *file) change(c change) {
	f.data = c.apply(f.data)
	f.pending = append(f.pending, c)
}

func (f *file) flush() {
	f.flushed, f.pending, f.named = slices.Clone(f.data), nil, true
}

// Cut is a power cut: it gives the files that are there afterwards. Of what was
// not flushed each change is there with the probability luck, in any
// combination. The disk holds the same afterwards.
func (d *Disk) Cut(luck float64, random *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := map[string][]byte{}
	for name, f := range d.gone {
		if f.named && random.Float64() >= luck {
			left[name] = f.after(luck, random)
		}
	}
	for name, f := range d.files {
		if f.named || random.Float64() < luck {
			left[name] = f.after(luck, random)
		}
	}
	d.load(left)
	return maps.Clone(left)
}

func (f *file) after(luck float64, random *rand.Rand) []byte {
	data := slices.Clone(f.flushed)
	for _, c := range f.pending {
		if random.Float64() < luck {
			data = c.apply(data)
		}
	}
	return data
}

// Load puts files on the disk, flushed, in place of all that was there.
func (d *Disk) Load(files map[string][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load(files)
}

func (d *Disk) load(files map[string][]byte) {
	d.files, d.gone = map[string]*file{}, map[string]*file{}
	for name, data := range files {
		f := &file{disk: d, mode: 0o600, data: slices.Clone(data)}
		f.flush()
		d.files[name] = f
	}
}

// Mount shows the disk at a directory until unmount.
func (d *Disk) Mount(dir string) (unmount func() error, err error) {
	root := &directory{disk: d}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "forgetfs", Name: "forgetfs", AllowOther: true},
		OnAdd:        root.add,
	})
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", dir, err)
	}
	return server.Unmount, nil
}

type directory struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeCreater   = (*directory)(nil)
	_ fs.NodeUnlinker  = (*directory)(nil)
	_ fs.NodeFsyncer   = (*directory)(nil)
	_ fs.NodeSetattrer = (*directory)(nil)
	_ fs.NodeGetattrer = (*directory)(nil)
)

func (r *directory) add(ctx context.Context) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	for name, f := range r.disk.files {
		f.Inode = fs.Inode{}
		r.AddChild(name, r.NewPersistentInode(ctx, f, fs.StableAttr{Mode: fuse.S_IFREG}), true)
	}
}

// Create implements fs.NodeCreater.
func (r *directory) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f := &file{disk: r.disk, mode: mode & 0o777}
	r.disk.files[name] = f
	f.attributes(&out.Attr)
	node := r.NewPersistentInode(ctx, f, fs.StableAttr{Mode: fuse.S_IFREG})
	r.AddChild(name, node, true)
	return node, nil, 0, 0
}

// Unlink implements fs.NodeUnlinker.
func (r *directory) Unlink(_ context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f, ok := r.disk.files[name]
	if !ok {
		return syscall.ENOENT
	}
	delete(r.disk.files, name)
	r.disk.gone[name] = f
	return 0
}

// Fsync implements fs.NodeFsyncer: names are there for good, or gone.
func (r *directory) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	clear(r.disk.gone)
	for _, f := range r.disk.files {
		f.named = true
	}
	return 0
}

// Getattr implements fs.NodeGetattrer.
func (r *directory) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = fuse.S_IFDIR | 0o700
	return 0
}

// Setattr implements fs.NodeSetattrer: a mode is taken, and forgotten.
func (r *directory) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return r.Getattr(ctx, f, out)
}

var (
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
	_ fs.NodeWriter    = (*file)(nil)
	_ fs.NodeFsyncer   = (*file)(nil)
	_ fs.NodeFlusher   = (*file)(nil)
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeSetattrer = (*file)(nil)
)

// attributes tells of the file; the caller holds the lock.
func (f *file) attributes(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink = fuse.S_IFREG|f.mode, uint64(len(f.data)), 1
}

// Open implements fs.NodeOpener.
func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) { return nil, 0, 0 }

// Flush implements fs.NodeFlusher: closing a file flushes nothing to the disk.
func (f *file) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// Read implements fs.NodeReader.
func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	at = min(at, int64(len(f.data)))
	return fuse.ReadResultData(dest[:copy(dest, f.data[at:])]), 0
}

// Write implements fs.NodeWriter.
func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.change(change{at: at, data: slices.Clone(data)})
	return uint32(len(data)), 0
}

// Fsync implements fs.NodeFsyncer. As on most file systems it flushes the
// name of a new file with it.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.flush()
	return 0
}

// Getattr implements fs.NodeGetattrer.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attributes(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		f.change(change{at: int64(size)})
	}
	if mode, ok := in.GetMode(); ok {
		f.mode = mode & 0o777
	}
	f.attributes(&out.Attr)
	return 0
}
