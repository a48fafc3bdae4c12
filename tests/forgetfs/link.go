package forgetfs

import (
	"context"
	"math/rand/v2"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// link is a symbolic link. It lasts with its name.
type link struct {
	fs.Inode
	target string
}

func (l *link) cut(float64, *rand.Rand) {}

func (l *link) forgetInodes() { l.Inode = fs.Inode{} }

func (l *link) attributes(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink = fuse.S_IFLNK|0o777, uint64(len(l.target)), 1
}

var (
	_ fs.NodeReadlinker = (*link)(nil)
	_ fs.NodeGetattrer  = (*link)(nil)
)

// Readlink implements fs.NodeReadlinker.
func (l *link) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(l.target), 0 }

// Getattr implements fs.NodeGetattrer.
func (l *link) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	l.attributes(&out.Attr)
	return 0
}
