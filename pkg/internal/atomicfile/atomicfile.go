// Package atomicfile writes files that are either the old or the new ones,
// whole, whatever happens in between: a crash, a full disk, a power cut. Any
// package below pkg may import it; it imports nothing of ours.
package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces path with data under exactly the given mode (the umask has no
// say). The data is on the disk when Write returns: it goes to a temporary file
// in the same directory, which is synced, renamed over path, and followed by a
// sync of the directory. On an error, path is what it was before.
//
// Write does not follow a symbolic link at path: the link is replaced. Two
// calls at once for one path leave the data of one of them.
func Write(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	// CreateTemp makes the file 0600, so a secret is never readable by others,
	// not even before the mode is set.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp := f.Name()
	if err := errors.Join(fill(f, data, mode), f.Close()); err != nil {
		return discard(tmp, path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return discard(tmp, path, err)
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func discard(tmp, path string, cause error) error {
	return fmt.Errorf("writing %s: %w", path, errors.Join(cause, os.Remove(tmp)))
}

func fill(f *os.File, data []byte, mode fs.FileMode) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// WriteIfChanged is Write that leaves a file alone which has this content
// already, so that watchers stay asleep and flash memory lasts. A file that
// differs only in its mode gets the mode. It says whether the content changed.
func WriteIfChanged(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(data)) {
		return true, Write(path, data, mode)
	}
	old, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(old, data) {
		return true, Write(path, data, mode)
	}
	if info.Mode().Perm() != mode.Perm() {
		if err := os.Chmod(path, mode.Perm()); err != nil {
			return false, fmt.Errorf("setting the mode of %s: %w", path, err)
		}
	}
	return false, nil
}

// SyncDir makes creations, renames and removals in dir survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
