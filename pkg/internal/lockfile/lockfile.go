// Package lockfile makes sure that one process at a time owns a directory. Any
// package below pkg may import it; it imports nothing of ours.
package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HeldError says who holds a lock.
type HeldError struct {
	Dir string // the directory that the lock stands for
	PID int    // the holder as it wrote it down, 0 when that is not known
}

func (e *HeldError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("another skiff (pid %d)", e.PID)
	}
	return fmt.Sprintf("the data directory %s is in use by %s: stop that one first, or choose another directory with --data-dir", e.Dir, holder)
}

// Lock is a held lock. The kernel frees it when the process ends, however it
// ends, so a stale file means nothing.
type Lock struct {
	file *os.File
}

// Acquire takes the lock at path, which stands for the directory that path is
// in, and writes this process' id into it. It does not wait: when the lock is
// held, the error is a *HeldError. The file stays after Release, because
// removing it would let two processes lock two files of the same name.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of %s: %w", filepath.Dir(path), err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &HeldError{Dir: filepath.Dir(path), PID: readPID(f)}
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := record(f, pid); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the process id to %s: %w", path, err), f.Close())
	}
	return &Lock{file: f}, nil
}

// record leaves the file alone if it says so already, as after a restart in a
// container, where the id is often the same.
func record(f *os.File, pid []byte) error {
	old := make([]byte, 32)
	n, _ := f.ReadAt(old, 0)
	if bytes.Equal(old[:n], pid) {
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(pid, 0)
	return err
}

func readPID(f *os.File) int {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// Release gives the lock up. Calling it twice gives os.ErrClosed.
func (l *Lock) Release() error { return l.file.Close() }
