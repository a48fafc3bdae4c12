package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// evacuateRoot makes room for pods in a container with a cgroup namespace, as
// other Kubernetes-in-a-container do: every process moves into a child.
func evacuateRoot(s *system) change {
	return change{
		what:  "move this container's processes into the cgroup /init, so that pods can have cgroups beside it",
		mend:  "start the container with an init that leaves its root cgroup empty",
		fatal: true,
		do: func(context.Context) error {
			child := cgroupMount + "/init"
			if err := os.MkdirAll(s.path(child), 0o755); err != nil {
				return err
			}
			procs, err := s.read(cgroupMount + "/cgroup.procs")
			if err != nil {
				return err
			}
			for _, pid := range strings.Fields(procs) {
				// A process may have ended since; others must not stay behind.
				_ = s.write(child+"/cgroup.procs", pid)
			}
			return s.delegate(cgroupMount)
		},
	}
}

// delegate lets children of a version 2 cgroup use what the kubelet needs.
func (s *system) delegate(dir string) error {
	var want []string
	for _, name := range requiredV2 {
		want = append(want, "+"+name)
	}
	if err := s.write(dir+"/cgroup.subtree_control", strings.Join(want, " ")); err != nil {
		return fmt.Errorf("delegating cgroup controllers below %s: %w", dir, err)
	}
	return nil
}

// probeCgroupRoot plans to make the cgroup that the user wants pods in, which
// the kubelet insists on finding.
func probeCgroupRoot(s *system, version int, mounts []mountPoint, root string, r *report) {
	dirs := map[string]bool{cgroupDir(cgroupMount, root): true}
	if version == 1 {
		dirs = map[string]bool{}
		at := hierarchies(mounts)
		for _, name := range append([]string{"blkio", "hugetlb", "name=systemd"}, requiredV1...) {
			if mountpoint, ok := at[name]; ok {
				dirs[cgroupDir(mountpoint, root)] = true
			}
		}
	}
	for dir := range dirs {
		if s.exists(dir) && version == 1 {
			continue
		}
		r.mend(change{
			what:  "make the cgroup " + dir,
			mend:  "mkdir -p " + dir,
			fatal: true,
			done:  func() bool { return version == 2 && s.delegated(dir) },
			do: func(context.Context) error {
				if version == 1 {
					return s.makeCgroupV1(dir)
				}
				return s.makeCgroupV2(dir)
			},
		})
	}
}

func (s *system) delegated(dir string) bool {
	have, err := s.read(dir + "/cgroup.controllers")
	if err != nil {
		return false
	}
	for _, name := range requiredV2 {
		if !strings.Contains(" "+have+" ", " "+name+" ") {
			return false
		}
	}
	return true
}

func (s *system) makeCgroupV2(dir string) error {
	at := cgroupMount
	for elem := range strings.SplitSeq(strings.Trim(strings.TrimPrefix(dir, cgroupMount), "/"), "/") {
		if err := s.delegate(at); err != nil {
			return err
		}
		at = filepath.Join(at, elem)
		if err := os.Mkdir(s.path(at), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// makeCgroupV1 makes a cgroup and its parents. A new cpuset is empty and holds
// no process until it is given its parent's processors and memory nodes.
func (s *system) makeCgroupV1(dir string) error {
	if s.exists(dir) {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := s.makeCgroupV1(parent); err != nil {
		return err
	}
	if err := os.Mkdir(s.path(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := s.read(filepath.Join(parent, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another controller
		}
		if err == nil && value != "" {
			err = s.write(filepath.Join(dir, name), value)
		}
		if err != nil {
			return fmt.Errorf("giving %s its processors: %w", dir, err)
		}
	}
	return nil
}
