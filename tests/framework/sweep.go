package framework

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// ownerFile in a run's directory is locked for as long as the run lives.
const ownerFile = "owner"

// claim makes the run's directory and holds a lock in it until the process
// ends, however it ends.
func claim(base string) error {
	if err := os.MkdirAll(base, 0o711); err != nil {
		return err
	}
	fd, err := unix.Open(filepath.Join(base, ownerFile), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("claiming %s: %w", base, err)
	}
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
}

// sweep removes what runs have left that were killed: their processes died
// with them, but bridges, cgroups and files stay.
func sweep(base string) error {
	owners, err := filepath.Glob(filepath.Join(base, "*", ownerFile))
	if err != nil {
		return err
	}
	var errs []error
	for _, owner := range owners {
		if alive(owner) {
			continue
		}
		errs = append(errs, sweepRun(filepath.Dir(owner)))
	}
	return errors.Join(errs...)
}

func alive(owner string) bool {
	f, err := os.Open(owner)
	if errors.Is(err, fs.ErrNotExist) {
		return true // it has just been removed by its owner
	}
	if err != nil {
		return true
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

func sweepRun(dir string) error {
	run := filepath.Base(dir)
	hosts, err := filepath.Glob(filepath.Join(dir, "*", "host.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hosts {
		host, err := nshost.Load(dir, filepath.Base(filepath.Dir(h)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, host.Close())
	}
	links, err := nshost.OwnLinks(run)
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, nshost.RemoveNetwork(l))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing what an earlier run left in %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}
