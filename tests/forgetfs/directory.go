package forgetfs

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

type directory struct {
	fs.Inode
	disk    *Disk
	parent  *directory // nil for the root
	mode    uint32
	entries map[string]entry // as programs see them

	flushed map[string]entry
	log     []names // since then, in order
}

// names is what one call has changed in a directory; nil is for a name that is
// gone.
type names map[string]entry

func (n names) apply(to map[string]entry) {
	for name, e := range n {
		if e == nil {
			delete(to, name)
			continue
		}
		to[name] = e
	}
}

func newDirectory(d *Disk, parent *directory, mode uint32) *directory {
	return &directory{disk: d, parent: parent, mode: mode, entries: map[string]entry{}, flushed: map[string]entry{}}
}

func (r *directory) change(n names) {
	n.apply(r.entries)
	r.log = append(r.log, n)
}

func (r *directory) put(name string, e entry) { r.change(names{name: e}) }

// flush makes all names last, and the directory's own.
func (r *directory) flush() {
	r.flushed, r.log = maps.Clone(r.entries), nil
	if r.parent != nil {
		r.parent.flushUpTo(r)
	}
}

// flushUpTo makes what happened last until e got its newest name.
func (r *directory) flushUpTo(e entry) {
	last := -1
	for i, n := range r.log {
		for _, other := range n {
			if other == e {
				last = i
			}
		}
	}
	for _, n := range r.log[:last+1] {
		n.apply(r.flushed)
	}
	r.log = slices.Delete(r.log, 0, last+1)
	if r.parent != nil {
		r.parent.flushUpTo(r)
	}
}

func (r *directory) cut(luck float64, random *rand.Rand) {
	if luck > 0 {
		for _, n := range r.log[:random.IntN(len(r.log)+1)] {
			n.apply(r.flushed)
		}
	}
	r.entries, r.log = maps.Clone(r.flushed), nil
	for _, name := range slices.Sorted(maps.Keys(r.entries)) {
		r.entries[name].cut(luck, random)
	}
}

// forgetInodes prepares for another mount.
func (r *directory) forgetInodes() {
	r.Inode = fs.Inode{}
	for _, e := range r.entries {
		e.forgetInodes()
	}
}

func (r *directory) attributes(out *fuse.Attr) {
	out.Mode, out.Nlink = fuse.S_IFDIR|r.mode, 2
}

var (
	_ fs.NodeCreater   = (*directory)(nil)
	_ fs.NodeMkdirer   = (*directory)(nil)
	_ fs.NodeSymlinker = (*directory)(nil)
	_ fs.NodeRenamer   = (*directory)(nil)
	_ fs.NodeUnlinker  = (*directory)(nil)
	_ fs.NodeRmdirer   = (*directory)(nil)
	_ fs.NodeFsyncer   = (*directory)(nil)
	_ fs.NodeGetattrer = (*directory)(nil)
	_ fs.NodeSetattrer = (*directory)(nil)
	_ fs.NodeStatfser  = (*directory)(nil)
)

// show makes inodes of what the disk holds.
func (r *directory) show(ctx context.Context) {
	for name, e := range r.entries {
		r.AddChild(name, r.node(ctx, e), true)
		if d, ok := e.(*directory); ok {
			d.show(ctx)
		}
	}
}

func (r *directory) node(ctx context.Context, e entry) *fs.Inode {
	var a fuse.Attr
	e.attributes(&a)
	return r.NewPersistentInode(ctx, e, fs.StableAttr{Mode: a.Mode & syscall.S_IFMT})
}

// add puts a new entry here and shows it.
func (r *directory) add(ctx context.Context, name string, e entry, out *fuse.EntryOut) *fs.Inode {
	node := r.node(ctx, e)
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.put(name, e)
	e.attributes(&out.Attr)
	r.AddChild(name, node, true)
	return node
}

// Create implements fs.NodeCreater.
func (r *directory) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return r.add(ctx, name, &file{disk: r.disk, parent: r, mode: mode & 0o7777}, out), nil, 0, 0
}

// Mkdir implements fs.NodeMkdirer.
func (r *directory) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return r.add(ctx, name, newDirectory(r.disk, r, mode&0o7777), out), 0
}

// Symlink implements fs.NodeSymlinker.
func (r *directory) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return r.add(ctx, name, &link{target: target}, out), 0
}

// Rename implements fs.NodeRenamer. Between directories, programs have to copy.
func (r *directory) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if other, ok := to.(*directory); !ok || other != r || flags != 0 {
		return syscall.EXDEV
	}
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	e, ok := r.entries[name]
	if !ok {
		return syscall.ENOENT
	}
	r.change(names{name: nil, newName: e})
	return 0
}

// Unlink implements fs.NodeUnlinker.
func (r *directory) Unlink(_ context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.put(name, nil)
	return 0
}

// Rmdir implements fs.NodeRmdirer.
func (r *directory) Rmdir(ctx context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	d, ok := r.entries[name].(*directory)
	full := ok && len(d.entries) > 0
	r.disk.mu.Unlock()
	if full {
		return syscall.ENOTEMPTY
	}
	return r.Unlink(ctx, name)
}

// Fsync implements fs.NodeFsyncer.
func (r *directory) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.disk.wait()
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.flush()
	return 0
}

// Getattr implements fs.NodeGetattrer.
func (r *directory) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.attributes(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (r *directory) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		r.mode = mode & 0o7777
	}
	r.attributes(&out.Attr)
	return 0
}

// Statfs implements fs.NodeStatfser: there is room.
func (r *directory) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 16 << 30 / 4096
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: blocks, Ffree: blocks, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return 0
}
