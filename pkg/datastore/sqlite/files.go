package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

var header = []byte("SQLite format 3\x00")

// prepareFiles makes the directory and the file when they are missing, and
// takes from everybody else the right to read what is there. It says whether
// the last owner of the database ended without closing it. It must run before
// SQLite opens the file: closing a file of ours would drop SQLite's locks.
func prepareFiles(path string) (unclean bool, err error) {
	dir := filepath.Dir(path)
	if err := privateDir(dir); err != nil {
		return false, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
			return false, fmt.Errorf("%w: the file is gone but its write-ahead log %s-wal is there", errDamaged, path)
		}
		return false, createFile(path)
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: it is not a regular file but %s", errDamaged, info.Mode().Type())
	}
	wal, err := os.Stat(path + "-wal")
	unclean = err == nil && wal.Size() > 0
	if err := checkHeader(path, unclean); err != nil {
		return false, err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := private(name, fileMode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return unclean, nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	return private(dir, dirMode)
}

// private narrows a mode; it never widens one.
func private(name string, mode fs.FileMode) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if narrowed := info.Mode().Perm() & mode; narrowed != info.Mode().Perm() {
		return os.Chmod(name, narrowed)
	}
	return nil
}

// createFile leaves an empty database file whose name survives a power cut.
// SQLite gives its log files the mode of this one.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	// The umask may have taken bits away that the owner needs.
	if err := errors.Join(f.Chmod(fileMode), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// checkHeader tells a file of something else, or one that was cut short, from a
// database before SQLite gets to touch it. An empty file is a database without
// content. See https://www.sqlite.org/fileformat.html#the_database_header.
func checkHeader(path string, unclean bool) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	start := make([]byte, 100)
	n, err := io.ReadFull(f, start)
	info, serr := f.Stat()
	if err := errors.Join(ignoreEOF(err), serr, f.Close()); err != nil || n == 0 {
		return err
	}
	if n < len(start) || !bytes.HasPrefix(start, header) {
		return fmt.Errorf("%w: it is not a SQLite database", errDamaged)
	}
	number := func(at int) int64 { return int64(binary.BigEndian.Uint32(start[at:])) }
	size := int64(binary.BigEndian.Uint16(start[16:]))
	if size == 1 {
		size = 1 << 16
	}
	// After an unclean end pages may still be in the log, and the number is
	// only kept by versions that note that they do.
	if want := size * number(28); !unclean && number(24) == number(92) && info.Size() < want {
		return fmt.Errorf("%w: the file has been cut short, it has %d of %d bytes", errDamaged, info.Size(), want)
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
