package nshost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup hierarchy and this host's cgroup in it.
type hierarchy struct {
	Mount   string // where the machine mounts it
	Type    string // "cgroup" or "cgroup2"
	Options string // what a second mount of it has to be given
	Path    string // this host's cgroup, below Mount
}

// hierarchies lists the machine's cgroup mounts from its mountinfo.
func hierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 3 {
			continue
		}
		if super[0] != "cgroup" && super[0] != "cgroup2" {
			continue
		}
		h := hierarchy{Mount: fields[4], Type: super[0]}
		if h.Type == "cgroup" {
			h.Options = controllerOptions(super[2])
		}
		same := func(o hierarchy) bool { return o.Type == h.Type && o.Options == h.Options }
		if !slices.ContainsFunc(found, same) {
			found = append(found, h)
		}
	}
	return found
}

// controllerOptions keeps what names a version 1 hierarchy: its controllers or
// its name. The rest belongs to the mount that exists already.
func controllerOptions(super string) string {
	var keep []string
	named := false
	for option := range strings.SplitSeq(super, ",") {
		switch key, _, _ := strings.Cut(option, "="); key {
		case "rw", "ro", "xattr", "release_agent", "clone_children", "noprefix", "seclabel":
		case "name":
			keep, named = append(keep, option), true
		default:
			keep = append(keep, option)
		}
	}
	if named && len(keep) == 1 {
		keep = append([]string{"none"}, keep...)
	}
	return strings.Join(keep, ",")
}

// createCgroups makes the cgroup called name in every hierarchy.
func createCgroups(name string) ([]hierarchy, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	all := hierarchies(string(info))
	for i := range all {
		h := &all[i]
		h.Path = filepath.Join(h.Mount, name)
		if err := prepareParent(*h); err != nil {
			return nil, err
		}
		if err := os.Mkdir(h.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making the host's cgroup: %w", err)
		}
		if err := inheritCpuset(*h); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// prepareParent hands the controllers that a kubelet needs down to the
// children of a version 2 root. systemd has done so already where it runs.
func prepareParent(h hierarchy) error {
	if h.Type != "cgroup2" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(h.Mount, "cgroup.controllers"))
	if err != nil {
		return nil // the hierarchy's root has no such file in old kernels
	}
	available := strings.Fields(string(data))
	for _, c := range []string{"cpuset", "cpu", "io", "memory", "pids", "hugetlb"} {
		if !slices.Contains(available, c) {
			continue
		}
		file := filepath.Join(h.Mount, "cgroup.subtree_control")
		if err := os.WriteFile(file, []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("enabling the %s controller for the host's cgroup: %w", c, err)
		}
	}
	return nil
}

// inheritCpuset copies the parent's processors: a new version 1 cpuset has
// none, and nothing could run in it.
func inheritCpuset(h hierarchy) error {
	if h.Type != "cgroup" || !slices.Contains(strings.Split(h.Options, ","), "cpuset") {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		data, err := os.ReadFile(filepath.Join(h.Mount, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(h.Path, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func enterCgroups(all []hierarchy, pid int) error {
	for _, h := range all {
		file := filepath.Join(h.Path, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("moving the host's init into its cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the host's cgroups from the leaves up. The kernel
// lets go of a dead process' cgroup a moment after the process has ended.
func removeCgroups(ctx context.Context, all []hierarchy) error {
	var errs []error
	for _, h := range all {
		errs = append(errs, until(ctx, 20*time.Millisecond, func() (bool, error) {
			err := removeTree(h.Path)
			return err == nil, err
		}))
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	var directories []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() {
			directories = append(directories, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(directories) {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing cgroup %s: %w", d, err)
		}
	}
	return nil
}

// until calls try until it says true or ctx ends; it then returns try's last
// error.
func until(ctx context.Context, every time.Duration, try func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		done, err := try()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-ticker.C:
		}
	}
}
