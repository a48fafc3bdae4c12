package hostcheck

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const (
	cgroupMount = "/sys/fs/cgroup"
	memoryMend  = "add cgroup_enable=memory cgroup_memory=1 to the kernel's command line (Raspberry Pi: /boot/firmware/cmdline.txt; else GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub) and reboot"
)

// Controllers that the kubelet and runc need. Version 2 has no devices
// controller, and its freezer is always there.
var (
	requiredV1 = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"}
	requiredV2 = []string{"cpu", "cpuset", "memory", "pids"}
)

func probeCgroups(_ context.Context, s *system, opts Options, f *Facts, r *report) {
	mounts, err := s.mounts()
	if err != nil {
		r.problem(fmt.Sprintf("the mounts of this host cannot be read: %v", err), "mount -t proc proc /proc")
		return
	}
	f.OwnCgroup = s.ownCgroup()
	systemd := s.bootedWithSystemd()
	f.Systemd = systemd
	f.CgroupDriver = DriverCgroupfs
	root, ok := mountOf(mounts, cgroupMount)
	if ok && root.path == cgroupMount && root.fstype == "cgroup2" {
		f.CgroupVersion = 2
		probeCgroupV2(s, opts, root, r)
		// systemd claims the tree for itself, so it has to be asked for cgroups,
		// unless the user gave us a part of the tree that is no slice.
		if systemd && (opts.CgroupRoot == "" || strings.HasSuffix(opts.CgroupRoot, ".slice")) {
			f.CgroupDriver = DriverSystemd
		}
	} else {
		f.CgroupVersion = 1
		probeCgroupV1(s, mounts, r)
	}
	if opts.CgroupRoot != "" && f.CgroupDriver == DriverCgroupfs {
		probeCgroupRoot(s, f.CgroupVersion, mounts, opts.CgroupRoot, r)
	}
}

func probeCgroupV2(s *system, opts Options, root mountPoint, r *report) {
	if slices.Contains(root.options, "ro") {
		r.problem("cgroups are mounted read-only at "+cgroupMount+", as in a container without privileges",
			"start this container with --privileged, or mount -o remount,rw "+cgroupMount)
		return
	}
	content, err := s.read(cgroupMount + "/cgroup.controllers")
	if err != nil {
		r.problem(fmt.Sprintf("the cgroup controllers cannot be read: %v", err), "mount -t cgroup2 cgroup2 "+cgroupMount)
		return
	}
	have := strings.Fields(content)
	for _, name := range requiredV2 {
		switch {
		case slices.Contains(have, name):
		case name == "memory":
			r.problem("the memory cgroup controller is switched off, so pods could not be limited", memoryMend)
		default:
			r.problem(fmt.Sprintf("the cgroup controller %s is not available (%s/cgroup.controllers has: %s)", name, cgroupMount, content),
				"boot a kernel with it, or, in a container or a systemd unit, delegate it (Delegate=yes)")
		}
	}
	if s.namespacedCgroupRoot() {
		r.mend(evacuateRoot(s))
	}
}

func probeCgroupV1(s *system, mounts []mountPoint, r *report) {
	at := hierarchies(mounts)
	if memory, ok := mountOf(mounts, at["memory"]); ok && slices.Contains(memory.options, "ro") {
		r.problem("cgroups are mounted read-only at "+cgroupMount+", as in a container without privileges",
			"start this container with --privileged")
		return
	}
	if len(at) == 0 {
		r.problem("no cgroups are mounted at "+cgroupMount, "mount -t cgroup2 cgroup2 "+cgroupMount+" (Alpine: rc-update add cgroups && rc-service cgroups start)")
		return
	}
	enabled, err := s.enabledControllers()
	if err != nil {
		r.problem(fmt.Sprintf("the cgroup controllers cannot be read: %v", err), "mount -t proc proc /proc")
		return
	}
	r.warn("this host has cgroup version 1, which Kubernetes will drop", "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line")
	for _, name := range requiredV1 {
		dir, mounted := at[name]
		switch {
		case mounted && s.exists(dir):
		case name == "memory" && !enabled[name]:
			r.problem("the memory cgroup controller is switched off, so pods could not be limited", memoryMend)
		case !enabled[name]:
			r.problem(fmt.Sprintf("the cgroup controller %s is not available, see /proc/cgroups", name), "boot a kernel with it")
		default:
			r.problem(fmt.Sprintf("the cgroup controller %s is not mounted", name),
				fmt.Sprintf("mkdir -p %[1]s/%[2]s && mount -t cgroup -o %[2]s cgroup %[1]s/%[2]s", cgroupMount, name))
		}
	}
	if _, ok := at["blkio"]; !ok {
		r.warn("the cgroup controller blkio is not mounted: there will be no figures for disk traffic", "")
	}
}

// hierarchies maps version 1 controllers to where they are mounted.
func hierarchies(mounts []mountPoint) map[string]string {
	at := map[string]string{}
	for _, m := range mounts {
		if m.fstype != "cgroup" {
			continue
		}
		for _, option := range m.super {
			switch option {
			case "rw", "ro", "xattr", "clone_children", "noprefix":
			default:
				at[option] = m.path
			}
		}
	}
	return at
}

// enabledControllers reads /proc/cgroups: name, hierarchy, cgroups, enabled.
func (s *system) enabledControllers() (map[string]bool, error) {
	content, err := s.read("/proc/cgroups")
	if err != nil {
		return nil, err
	}
	enabled := map[string]bool{}
	for line := range strings.Lines(content) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0][0] != '#' {
			enabled[fields[0]] = fields[3] == "1"
		}
	}
	return enabled, nil
}

// ownCgroup reads lines of hierarchy:controllers:path.
func (s *system) ownCgroup() string {
	content, err := s.read("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	own := ""
	for line := range strings.Lines(content) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if slices.Contains(strings.Split(parts[1], ","), "memory") {
			return parts[2]
		}
		if parts[0] == "0" {
			own = parts[2]
		}
	}
	return own
}

// bootedWithSystemd is sd_booted(3), except that a process 1 of our own PID
// namespace counts and not the host's: its systemd would not know our cgroups.
func (s *system) bootedWithSystemd() bool {
	comm, err := s.read("/proc/1/comm")
	if err != nil || comm != "systemd" || !s.exists("/run/systemd/system") {
		return false
	}
	// runc asks systemd by way of one of these.
	return s.exists("/run/systemd/private") || s.exists("/run/dbus/system_bus_socket")
}

// namespacedCgroupRoot says that what we see as the root of the tree is none:
// the real root has no cgroup.type. Only the real root may hold processes and
// hand controllers down at the same time.
func (s *system) namespacedCgroupRoot() bool {
	procs, err := s.read(cgroupMount + "/cgroup.procs")
	return err == nil && procs != "" && s.exists(cgroupMount+"/cgroup.type")
}

func cgroupDir(mountpoint, cgroup string) string {
	return filepath.Join(mountpoint, strings.TrimPrefix(cgroup, "/"))
}
