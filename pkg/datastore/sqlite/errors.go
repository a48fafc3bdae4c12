package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// errDamaged marks errors of a file that SQLite can not make sense of.
var errDamaged = errors.New("damaged")

// code is SQLite's primary result code, 0 when err is not from SQLite.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isNoTransaction(err error) bool {
	return code(err) == sqlite3.SQLITE_ERROR && strings.Contains(err.Error(), "no transaction")
}

// isFatal says that going on could do harm: the file is damaged, the disk
// failed (after a failed flush nobody knows what it holds), or somebody else
// writes to the same file.
func isFatal(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CONSTRAINT:
		return true
	}
	return false
}

// clientError is what clients of the etcd API get to see of err.
func clientError(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case code(err) == sqlite3.SQLITE_FULL:
		return rpctypes.ErrGRPCNoSpace
	}
	return status.Error(codes.Internal, "datastore: "+err.Error())
}

// explain turns an error at opening into one line for the administrator: which
// file, what is wrong, and what mends it.
func explain(path string, err error) error {
	const mend = "nothing was changed: restore a copy of it, or move it away to start with an empty cluster"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDamaged):
		return fmt.Errorf("database %s: %w; %s", path, err, mend)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("database %s: no permission (%w); run as root, or make the file and its directory belong to this user", path, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("database %s: the file system is read-only (%w); remount it writable or choose another --data-dir", path, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("database %s: the disk is full (%w); free some space", path, err)
	}
	switch code(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("database %s: %w: not a SQLite database (%w); %s", path, errDamaged, err, mend)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("database %s: %w: the file is malformed (%w); %s", path, errDamaged, err, mend)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("database %s: the disk is full (%w); free some space", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("database %s: can not be written (%w); its directory and file must be writable by this user", path, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("database %s: another process uses it (%w); stop that process", path, err)
	case sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("database %s: another process has written to it (%w); stop that process and start again", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("database %s: the disk fails (%w); look at the kernel's messages", path, err)
	}
	return fmt.Errorf("database %s: %w", path, err)
}
