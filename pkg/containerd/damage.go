package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// DamagedError says that one of containerd's databases cannot be used, for
// example because the disk lost writes at a power cut.
type DamagedError struct {
	File string // the damaged file
	Root string // what has to be moved away: containerd's whole state
	Err  error
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("containerd's database %s is damaged (%v). "+
		"Images and containers can be made anew: reboot, or stop all pods, then move the directory away with "+
		"`mv %s %s.damaged` and start Skiff again; archives in the images directory are imported again, other images are pulled again",
		e.File, e.Err, e.Root, e.Root)
}

// Unwrap gives the database's own error.
func (e *DamagedError) Unwrap() error { return e.Err }

// checkDatabases opens every database below containerd's root before containerd
// does. Without it a damaged one is found by a crash (a page beyond the end of
// a truncated file is a memory fault) or by an error that names no file.
func checkDatabases(root string) error {
	for _, pattern := range []string{"io.containerd.metadata.*/*.db", "io.containerd.snapshotter.*/*.db"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("look for containerd's databases: %w", err)
		}
		for _, file := range files {
			if err := checkDatabase(file); err != nil {
				return describeDamage(file, root, err)
			}
		}
	}
	return nil
}

func describeDamage(file, root string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("containerd's database %s is in use by another process: stop the other containerd or Skiff (`fuser %s` names it)", file, file)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open containerd's database: %w", err)
	}
	return &DamagedError{File: file, Root: root, Err: err}
}

// checkDatabase reads the whole database once. It is small (a few MiB with
// hundreds of images) and containerd is about to read most of it anyway.
func checkDatabase(file string) (err error) {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if info.Size() == 0 {
		// containerd itself was stopped between creating and filling it; bolt
		// starts such a file afresh.
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("reading it failed: %v", cause)
		}
	}()
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		Timeout: 5 * time.Second, ReadOnly: true, NoFreelistSync: true,
	})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(walk)
}

// walk touches every key and value of the database.
func walk(tx *bolt.Tx) error {
	size := tx.Size()
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < size {
		return fmt.Errorf("it has %d bytes where %d are in use", info.Size(), size)
	}
	return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walkBucket(b) })
}

func walkBucket(b *bolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v != nil {
			return nil
		}
		child := b.Bucket(k)
		if child == nil {
			return fmt.Errorf("the bucket %q is missing", k)
		}
		return walkBucket(child)
	})
}

// explain adds what to do to the errors that users meet.
func explain(err error, cfg Config) error {
	snapshotter := "io.containerd.snapshotter.v1." + cfg.Snapshotter
	if strings.Contains(err.Error(), snapshotter) {
		return fmt.Errorf("the snapshotter %q does not work with %s (overlayfs cannot be on top of overlayfs, ZFS or some network file systems): "+
			"move the data directory to another file system or use --snapshotter=native: %w", cfg.Snapshotter, cfg.Layout.Containerd(), err)
	}
	return fmt.Errorf("start containerd: %w", err)
}
