package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// partial ends the names of files that are being written.
const partial = ".part"

// Directory keeps snapshots as files.
type Directory struct{ Path string }

// create writes one file under a temporary name, and gives it its own once it
// is whole and on the disk. When that fails nothing is left.
func (d Directory) create(name string, fill func(*os.File) error) (path string, err error) {
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return "", d.explain("making the directory", err)
	}
	d.sweep()
	path = filepath.Join(d.Path, name+Suffix)
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("there is a snapshot %s already", path)
	}
	f, err := os.CreateTemp(d.Path, "."+name+".*"+partial) // mode 0600
	if err != nil {
		return "", d.explain("writing the snapshot", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return "", d.explain("writing the snapshot", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return "", d.explain("writing the snapshot", err)
	}
	return path, atomicfile.SyncDir(d.Path)
}

// leftOver is the age at which nobody writes a file any more: the directory may
// be one that several servers have mounted.
const leftOver = time.Hour

// sweep removes what a process that was killed has left.
func (d Directory) sweep() {
	old, _ := filepath.Glob(filepath.Join(d.Path, ".*"+partial))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > leftOver {
			_ = os.Remove(path) // the next time, else
		}
	}
}

// explain makes what a full disk or a read-only one says clear.
func (d Directory) explain(what string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: no space is left in %s; nothing was kept. Remove old snapshots with skiff snapshot prune, or choose another directory with --snapshot-dir", what, d.Path)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %s cannot be written; choose another directory with --snapshot-dir: %w", what, d.Path, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// List gives all snapshots, the newest first. Files that cannot be understood
// are listed with the reason.
func (d Directory) List(context.Context) ([]Info, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var all []Info
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), Suffix); ok && e.Type().IsRegular() && !strings.HasPrefix(name, ".") {
			all = append(all, d.info(name))
		}
	}
	slices.SortFunc(all, newestFirst)
	return all, nil
}

func newestFirst(a, b Info) int {
	return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Name, b.Name))
}

func (d Directory) info(name string) Info {
	path := d.file(name)
	i := Info{Name: name, Place: Local, Location: path}
	f, err := os.Open(path)
	if err != nil {
		i.Problem = err.Error()
		return i
	}
	defer f.Close()
	if stat, err := f.Stat(); err == nil {
		i.Size, i.Created = stat.Size(), stat.ModTime().UTC()
	}
	m, err := Peek(f)
	if err != nil {
		i.Problem = err.Error()
		return i
	}
	m = m.WithoutKeys()
	i.Created, i.Node, i.Metadata = m.Created, m.Node, &m
	return i
}

func (d Directory) file(name string) string { return filepath.Join(d.Path, name+Suffix) }

// find gives the file of a snapshot by its name, with or without the suffix.
func (d Directory) find(name string) (string, bool) {
	name = strings.TrimSuffix(name, Suffix)
	if name == "" || name != filepath.Base(name) {
		return "", false
	}
	path := d.file(name)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// Delete removes one; found is false when there is none.
func (d Directory) Delete(_ context.Context, name string) (found bool, err error) {
	path, ok := d.find(name)
	if !ok {
		return false, nil
	}
	if err := os.Remove(path); err != nil {
		return true, fmt.Errorf("deleting the snapshot: %w", err)
	}
	return true, nil
}
