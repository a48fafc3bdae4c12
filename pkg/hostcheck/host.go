package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// probeHost learns what kind of host this is.
func probeHost(_ context.Context, s *system, _ Options, f *Facts, _ *report) {
	f.UserNamespace = s.userNamespace()
	for _, sign := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		f.Container = f.Container || s.exists(sign)
	}
	if env, err := s.read("/proc/1/environ"); err == nil && strings.Contains("\x00"+env, "\x00container=") {
		f.Container = true
	}
}

// userNamespace reads the map of user ids, whole only in the first namespace.
func (s *system) userNamespace() bool {
	content, err := s.read("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(content), " ") != "0 0 4294967295"
}

// probeTools looks for programs that the kubelet runs. It runs no others on a
// plain node: connection tracking and port forwarding are done in-process.
func probeTools(_ context.Context, s *system, _ Options, _ *Facts, r *report) {
	for _, name := range []string{"mount", "umount"} {
		if _, err := s.lookPath(name); err != nil {
			r.problem(fmt.Sprintf("there is no program %s in the PATH; the kubelet mounts volumes with it", name),
				s.install("mount", map[string]string{"fedora": "util-linux", "rhel": "util-linux", "centos": "util-linux",
					"suse": "util-linux", "opensuse": "util-linux", "sles": "util-linux", "arch": "util-linux"}))
		}
	}
}

// probeKmsg opens what the kubelet reads the kernel's out-of-memory kills from.
func probeKmsg(_ context.Context, s *system, _ Options, f *Facts, r *report) {
	file, err := os.Open(s.path("/dev/kmsg"))
	if err == nil {
		_ = file.Close() // opened to be read, so nothing is lost
		return
	}
	what := fmt.Sprintf("/dev/kmsg cannot be opened, and the kubelet learns of out-of-memory kills from it: %v", err)
	if errors.Is(err, fs.ErrNotExist) {
		r.problem(what, "mknod -m 0600 /dev/kmsg c 1 11 (in a container: --device /dev/kmsg; LXC: ln -s /dev/console /dev/kmsg)")
		return
	}
	if s.userNamespace() {
		r.warn(what, "")
		return
	}
	r.problem(what, "give the container CAP_SYSLOG, or sysctl -w kernel.dmesg_restrict=0 on its host")
}

// pauseScore is the lowest score that a container is given: a sandbox's.
const pauseScore = -998

// probeOOM tries to lower the process' own score as it would a container's.
func probeOOM(_ context.Context, s *system, _ Options, f *Facts, r *report) {
	const path = "/proc/self/oom_score_adj"
	have, err := s.read(path)
	if err != nil {
		return
	}
	if score, err := strconv.Atoi(have); err == nil && score <= pauseScore {
		return // children inherit it and may raise it
	}
	if err := s.write(path, strconv.Itoa(pauseScore)); err != nil {
		f.RestrictOOMScoreAdj = true
		r.warn("this process may not lower out-of-memory scores (no CAP_SYS_RESOURCE): containers keep the process' own, and important pods are not spared",
			"start it with CAP_SYS_RESOURCE")
		return
	}
	if err := s.write(path, have); err != nil {
		r.warn(fmt.Sprintf("the process' out-of-memory score stays at %d: %v", pauseScore, err), "")
	}
}

func probeSwap(_ context.Context, s *system, _ Options, f *Facts, r *report) {
	content, err := s.read("/proc/swaps")
	if err != nil || strings.Count(content, "\n") == 0 {
		return // a header and nothing else
	}
	f.Swap = true
	r.warn("swap is in use: pods under memory pressure become slow before they are evicted", "swapoff -a, and remove it from /etc/fstab")
}

// probeClock looks for a clock that nobody has set; certificates wait for it.
func probeClock(_ context.Context, s *system, _ Options, _ *Facts, r *report) {
	if now := s.now(); now.Year() < 2026 {
		r.warn("the clock says "+now.UTC().Format(time.RFC3339)+", which cannot be", "timedatectl set-ntp true, or date -s")
	}
}

// Free space below which a node is in trouble from its first minute. The
// kubelet removes images below 15 % and evicts pods below 10 %.
const (
	leastFree  = 200 << 20
	fewPercent = 15
)

func probeDisk(_ context.Context, s *system, opts Options, _ *Facts, r *report) {
	dir := s.nearest(opts.DataDir)
	st, err := s.statfs(s.path(dir))
	if err != nil {
		r.problem(fmt.Sprintf("the file system of %s cannot be looked at: %v", opts.DataDir, err), "choose another --data-dir")
		return
	}
	free := st.Bavail * uint64(st.Bsize)
	total := max(st.Blocks*uint64(st.Bsize), 1)
	percent := free * 100 / total
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		r.problem(fmt.Sprintf("%s is on a read-only file system", dir), "mount -o remount,rw it, or choose another --data-dir")
	case free < leastFree:
		r.problem(fmt.Sprintf("%s has %d MiB left of %d", dir, free>>20, total>>20), "make room, or choose another --data-dir")
	case percent < fewPercent:
		r.warn(fmt.Sprintf("%s has %d %% of its space left: the kubelet removes images below 15 %% and evicts pods below 10 %%", dir, percent), "make room, or choose another --data-dir")
	case st.Files > 0 && st.Ffree*100/st.Files < 5:
		r.warn(fmt.Sprintf("%s has less than 5 %% of its inodes left: the kubelet evicts pods", dir), "remove small files, or choose another --data-dir")
	}
	if opts.Node && st.Flags&unix.ST_NOEXEC != 0 {
		r.problem(fmt.Sprintf("%s is on a file system without programs (noexec), and runc is unpacked there", dir), "mount -o remount,exec it, or choose another --data-dir")
	}
}
