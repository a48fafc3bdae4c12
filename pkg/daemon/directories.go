package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// directory is one that has to be there, with what helps when it cannot be.
type directory struct {
	path string
	mode fs.FileMode
	help string
}

// directoriesOf are those that everything else is in. Only servers have one
// for the control plane.
func directoriesOf(l layout.Layout, server bool) []directory {
	const another = "choose another data directory with --data-dir"
	all := []directory{
		{l.Data, 0o755, "choose another with --data-dir"},
		{l.Run, 0o755, "it must be on a file system that can be written, usually a tmpfs on /run"},
		{l.Agent(), 0o755, another},
	}
	if server {
		all = append(all, directory{l.Server(), 0o700, another})
	}
	return all
}

// MakeDirectories makes the directories of a server or an agent, for commands
// that work on them while it does not run.
func MakeDirectories(l layout.Layout, server bool) error {
	return makeDirectories(directoriesOf(l, server))
}

// makeDirectories makes directories and finds out early whether they can be
// written.
func makeDirectories(all []directory) error {
	for _, d := range all {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return fmt.Errorf("can't make the directory %s: %s; %s", d.path, reason(err), d.help)
		}
		if err := writable(d.path); err != nil {
			return fmt.Errorf("can't write to the directory %s: %s; %s", d.path, reason(err), d.help)
		}
	}
	return nil
}

// writable tries; permissions alone say nothing about read-only file systems.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".write-test-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(filepath.Clean(f.Name())))
}

// reason is an error without the path and operation, which the message has.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
