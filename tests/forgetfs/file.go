package forgetfs

import (
	"context"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// file is one with what a flush has made last, and what came after it.
type file struct {
	fs.Inode
	disk   *Disk
	parent *directory
	mode   uint32
	data   []byte // as programs see it

	flushed []byte
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

// flush makes the content last, and, as on most file systems, the file's name.
func (f *file) flush() {
	f.flushed, f.pending = slices.Clone(f.data), nil
	f.parent.flushUpTo(f)
}

func (f *file) cut(luck float64, random *rand.Rand) {
	for _, c := range f.pending {
		if random.Float64() < luck {
			f.flushed = c.apply(f.flushed)
		}
	}
	f.data, f.pending = slices.Clone(f.flushed), nil
}

func (f *file) forgetInodes() { f.Inode = fs.Inode{} }

func (f *file) attributes(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink = fuse.S_IFREG|f.mode, uint64(len(f.data)), 1
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

// Open implements fs.NodeOpener.
func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		f.disk.mu.Lock()
		defer f.disk.mu.Unlock()
		f.change(change{})
	}
	return nil, 0, 0
}

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

// Fsync implements fs.NodeFsyncer.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.wait()
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
		f.mode = mode & 0o7777
	}
	f.attributes(&out.Attr)
	return 0
}
