package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// leftoverPrefix marks directories that are being written or thrown away. Who
// holds the lock may remove them.
const leftoverPrefix = ".tmp-"

// lock takes an exclusive lock on a file, waiting until ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- flock(f) }()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// flock(2) cannot be interrupted from here; the goroutine ends
		// when the lock's holder does and then lets it go.
		go func() {
			<-done
			f.Close()
		}()
		return nil, fmt.Errorf("waiting for the process that holds %s: %w", path, context.Cause(ctx))
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func removeLeftovers(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), leftoverPrefix) {
			if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
				return fmt.Errorf("removing what an interrupted start left: %w", err)
			}
		}
	}
	return nil
}

// replaceDir gives temp its final name, out of whose way an incomplete
// directory is moved first.
func replaceDir(temp, final string) error {
	base := filepath.Dir(final)
	old := filepath.Join(base, leftoverPrefix+"old")
	if err := os.Rename(final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	return syncPath(base)
}

// point makes the symbolic link called as the set lead to the set's newest
// content, and the one called previous-<set> to the content before it.
func point(base string, id ID) error {
	link, previous := filepath.Join(base, id.Set), filepath.Join(base, "previous-"+id.Set)
	if target, err := os.Readlink(link); err == nil && target != id.Key {
		if err := os.Rename(link, previous); err != nil {
			return err
		}
	}
	temp := filepath.Join(base, leftoverPrefix+id.Set)
	if err := os.Symlink(id.Key, temp); err != nil {
		return err
	}
	return os.Rename(temp, link)
}

// prune removes sets that no link leads to and no process runs from. A pod
// that outlived an upgrade keeps its shim, and that shim needs the runc beside
// it until the pod ends.
func prune(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	keep := executing(base)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(base, e.Name())); err == nil {
			keep[target] = true
		}
	}
	for _, e := range entries {
		if !e.IsDir() || len(e.Name()) != 64 || keep[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
			return fmt.Errorf("removing helper programs that are no longer used: %w", err)
		}
	}
	return nil
}

// executing returns the names of the directories in base that running
// programs come from.
func executing(base string) map[string]bool {
	used := map[string]bool{}
	if real, err := filepath.EvalSymlinks(base); err == nil {
		base = real // as the kernel shows it
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		// Errors are kernel threads and processes that have ended.
		if exe, err := os.Readlink(link); err == nil {
			if rel, ok := strings.CutPrefix(exe, base+"/"); ok {
				name, _, _ := strings.Cut(rel, "/")
				used[name] = true
			}
		}
	}
	return used
}

// checkExecutable says it now and plainly if the file system forbids what
// would otherwise fail with "permission denied" at the first pod.
func checkExecutable(root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("checking the file system of %s: %w", root, err)
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return fmt.Errorf("programs cannot be run from %s: its file system is mounted noexec; remount it with exec or choose another place with --data-dir", root)
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
