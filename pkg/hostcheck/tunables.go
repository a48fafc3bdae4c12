package hostcheck

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// tunables are what the kubelet sets at its start, or insists on with
// --protect-kernel-defaults (pkg/kubelet/cm/container_manager_linux.go).
var tunables = []struct{ path, want string }{
	{"/proc/sys/vm/overcommit_memory", "1"},
	{"/proc/sys/vm/panic_on_oom", "0"},
	{"/proc/sys/kernel/panic", "10"},
	{"/proc/sys/kernel/panic_on_oops", "1"},
	{"/proc/sys/kernel/keys/root_maxkeys", "1000000"},
	{"/proc/sys/kernel/keys/root_maxbytes", "25000000"},
}

func probeTunables(_ context.Context, s *system, opts Options, _ *Facts, r *report) {
	for _, t := range tunables {
		have, err := s.read(t.path)
		name := sysctlName(t.path)
		mend := fmt.Sprintf("sysctl -w %[1]s=%[2]s && echo %[1]s=%[2]s >> /etc/sysctl.d/90-skiff.conf", name, t.want)
		switch {
		case err != nil:
			r.problem(fmt.Sprintf("the kubelet needs the kernel setting %s: %v", name, err), "mount /proc whole, or boot a kernel with it")
		case have == t.want:
		case opts.ProtectKernelDefaults:
			r.problem(fmt.Sprintf("%s is %s and has to be %s with protect-kernel-defaults", name, have, t.want), mend)
		case s.writable(t.path):
		case s.userNamespace():
			r.warn(fmt.Sprintf("%s is %s and cannot be set to %s in a user namespace", name, have, t.want), "on the host outside: "+mend)
		default:
			r.problem(fmt.Sprintf("%s is %s and cannot be set to %s from here", name, have, t.want), "on the host outside: "+mend)
		}
	}
}

// Limits of inotify that are enough for hundreds of pods: the kubelet, the
// container runtime and many programs in pods have an instance each, and the
// kernel's 128 for each user are used up by some dozens.
const (
	wantInstances = 8192
	wantWatches   = 524288
)

func probeInotify(_ context.Context, s *system, _ Options, _ *Facts, r *report) {
	for _, t := range []struct {
		name string
		want int
	}{{"max_user_instances", wantInstances}, {"max_user_watches", wantWatches}} {
		path := "/proc/sys/fs/inotify/" + t.name
		have, err := s.read(path)
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(have); err == nil && n < t.want {
			r.sysctl(s, path, strconv.Itoa(t.want), false)
		}
	}
}

// wantFiles is what the units of Docker, containerd and k3s gave for years;
// databases in pods are known to fail with less than fewFiles.
const (
	wantFiles = 1 << 20
	fewFiles  = 1 << 16
)

// probeFiles plans to set the limit of open files, which containers inherit.
// It is set even if it looks right: Go raises the soft limit for the process
// itself and hides that from programs that it starts, unless it is set.
func probeFiles(_ context.Context, s *system, _ Options, _ *Facts, r *report) {
	limit, err := s.getrlimit()
	if err != nil {
		return
	}
	r.mend(change{
		what:  fmt.Sprintf("raise the limit of open files, which is %d", limit.Max),
		mend:  "LimitNOFILE=1048576 in the unit, or ulimit -n 1048576 before the start",
		quiet: true,
		do: func(context.Context) error {
			err := s.setrlimit(unix.Rlimit{Cur: wantFiles, Max: max(limit.Max, wantFiles)})
			if err == nil {
				return nil
			}
			// Without CAP_SYS_RESOURCE the hard limit is as high as it goes.
			if again := s.setrlimit(unix.Rlimit{Cur: min(wantFiles, limit.Max), Max: limit.Max}); again != nil {
				return again
			}
			if limit.Max < fewFiles {
				return err
			}
			return nil
		},
	})
}
