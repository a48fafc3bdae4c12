package hostcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// system is the seam between the checks and the host: a root directory for all
// files, and the few things that are no files.
type system struct {
	root    string
	euid    int
	release string // of the kernel

	now      func() time.Time
	lookPath func(name string) (string, error)
	// run runs a program and returns its output; the error has its messages.
	run func(ctx context.Context, stdin, name string, args ...string) (string, error)
	// openWrite opens a file of /proc or /sys for writing, to see if it may be.
	openWrite func(path string) (*os.File, error)
	statfs    func(path string) (unix.Statfs_t, error)
	mount     func(source, target, fstype string, flags uintptr, data string) error
	unmount   func(target string) error
	setrlimit func(unix.Rlimit) error
	getrlimit func() (unix.Rlimit, error)
	tryLink   func(kind string) error
}

// toolTimeout bounds the programs that are run; they take milliseconds.
const toolTimeout = 10 * time.Second

func newSystem() *system {
	return &system{
		root:     "/",
		euid:     os.Geteuid(),
		release:  kernelRelease(),
		now:      time.Now,
		lookPath: exec.LookPath,
		run:      runTool,
		openWrite: func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_WRONLY, 0)
		},
		statfs: func(path string) (st unix.Statfs_t, err error) {
			err = unix.Statfs(path, &st)
			return st, err
		},
		mount:   unix.Mount,
		unmount: func(target string) error { return unix.Unmount(target, 0) },
		setrlimit: func(limit unix.Rlimit) error {
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		},
		getrlimit: func() (limit unix.Rlimit, err error) {
			err = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
			return limit, err
		},
		tryLink: tryLink,
	}
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func runTool(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err, first)
	}
	return string(out), nil
}

func (s *system) path(path string) string { return filepath.Join(s.root, path) }

func (s *system) read(path string) (string, error) {
	data, err := os.ReadFile(s.path(path))
	return strings.TrimSpace(string(data)), err
}

func (s *system) exists(path string) bool {
	_, err := os.Stat(s.path(path))
	return err == nil
}

// write writes to a file that exists, as those of /proc and /sys do.
func (s *system) write(path, value string) error {
	f, err := s.openWrite(s.path(path))
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// writable says whether a file could be written now.
func (s *system) writable(path string) bool {
	f, err := s.openWrite(s.path(path))
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// nearest is the deepest existing directory on the way to path.
func (s *system) nearest(path string) string {
	for ; path != "/" && path != "."; path = filepath.Dir(path) {
		info, err := os.Stat(s.path(path))
		if err == nil && info.IsDir() {
			return path
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return path
		}
	}
	return "/"
}
