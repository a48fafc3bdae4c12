package hostcheck

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHost is a tree of testdata with a machine's behaviour around it.
type fakeHost struct {
	*system
	programs map[string]string // found in the PATH, with their output
	readOnly []string          // files that cannot be opened for writing
	ran      []string
	mounted  []string
	limit    unix.Rlimit
}

func newFakeHost(t *testing.T, tree string) *fakeHost {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", tree+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{limit: unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}}
	root := t.TempDir()
	for _, f := range archive.Files {
		put(t, filepath.Join(root, f.Name), string(f.Data))
	}
	h.programs = map[string]string{
		"mount": "", "umount": "", "modprobe": "",
		"nft": "nftables v1.0.6 (Lester Gooch #5)\n",
	}
	h.system = &system{
		root:    root,
		release: "6.1.0-18-amd64",
		now:     func() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) },
		lookPath: func(name string) (string, error) {
			if _, ok := h.programs[name]; !ok {
				return "", os.ErrNotExist
			}
			return name, nil
		},
		run: func(_ context.Context, _, name string, args ...string) (string, error) {
			if name == "modprobe" {
				h.ran = append(h.ran, strings.Join(append([]string{name}, args...), " "))
			}
			if out, ok := strings.CutPrefix(h.programs[name], "!"); ok && (name != "nft" || args[0] == "--check") {
				return "", errors.New(out)
			}
			return strings.TrimPrefix(h.programs[name], "!"), nil
		},
		openWrite: func(path string) (*os.File, error) {
			rel := strings.TrimPrefix(path, root)
			if slices.ContainsFunc(h.readOnly, func(prefix string) bool { return strings.HasPrefix(rel, prefix) }) {
				return nil, unix.EACCES
			}
			flags := os.O_WRONLY
			if strings.HasPrefix(rel, "/sys/fs/cgroup/") {
				flags |= os.O_CREATE // a new cgroup has its files at once
			}
			if strings.HasSuffix(rel, "/oom_score_adj") {
				flags |= os.O_TRUNC // the kernel keeps one number and no text
			}
			return os.OpenFile(path, flags, 0o644)
		},
		statfs: func(string) (unix.Statfs_t, error) {
			return unix.Statfs_t{Bsize: 4096, Blocks: 1 << 24, Bavail: 1 << 23, Files: 100, Ffree: 90}, nil
		},
		mount: func(_, target, fstype string, flags uintptr, _ string) error {
			h.mounted = append(h.mounted, fstype)
			if flags&unix.MS_SHARED != 0 {
				put(t, filepath.Join(root, "proc/self/mountinfo"), "1 1 0:1 / / rw shared:1 - ext4 x rw\n")
			}
			return nil
		},
		unmount:   func(string) error { return nil },
		getrlimit: func() (unix.Rlimit, error) { return h.limit, nil },
		setrlimit: func(l unix.Rlimit) error {
			if l.Max > h.limit.Max {
				return unix.EPERM
			}
			h.limit = l
			return nil
		},
		tryLink: func(string) error { return unix.EOPNOTSUPP },
	}
	return h
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (h *fakeHost) set(t *testing.T, path, content string) { put(t, h.path(path), content) }

func (h *fakeHost) remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(h.path(path)); err != nil {
		t.Fatal(err)
	}
}

// replace changes text in a file of the tree.
func (h *fakeHost) replace(t *testing.T, path, old, with string) {
	t.Helper()
	data, err := os.ReadFile(h.path(path))
	if err != nil || !strings.Contains(string(data), old) {
		t.Fatalf("%s does not hold %q (%v)", path, old, err)
	}
	put(t, h.path(path), strings.ReplaceAll(string(data), old, with))
}

func nodeOptions() Options {
	return Options{DataDir: "/var/lib/skiff", Node: true, FlannelBackend: "vxlan", Overlay: true}
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log.WithField("component", "hostcheck")
}

func texts(list []Finding) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func problemsOf(t *testing.T, err error) Problems {
	t.Helper()
	var p Problems
	if err != nil && !errors.As(err, &p) {
		t.Fatalf("%v is no list of problems", err)
	}
	return p
}

func TestAReadyHostIsToldApart(t *testing.T) {
	tests := []struct {
		tree string
		want Facts
	}{
		{"debian-v2-systemd", Facts{
			Kernel: "6.1.0-18-amd64", Systemd: true, CgroupVersion: 2, CgroupDriver: DriverSystemd,
			OwnCgroup: "/system.slice/skiff.service", ProxyMode: ProxyNFTables, IPv6: true, ConntrackWritable: true,
		}},
		{"bare-v1", Facts{
			Kernel: "6.1.0-18-amd64", CgroupVersion: 1, CgroupDriver: DriverCgroupfs,
			OwnCgroup: "/user/shell", ProxyMode: ProxyNFTables, Swap: true,
		}},
		{"container-v2", Facts{
			Kernel: "6.1.0-18-amd64", Container: true, CgroupVersion: 2, CgroupDriver: DriverCgroupfs,
			OwnCgroup: "/", ProxyMode: ProxyNFTables, ConntrackWritable: true,
		}},
	}
	for _, test := range tests {
		t.Run(test.tree, func(t *testing.T) {
			h := newFakeHost(t, test.tree)
			got, err := inspect(t.Context(), h.system, nodeOptions())
			if err != nil {
				t.Fatal(err)
			}
			got.Warnings, got.pending = nil, nil
			if !equalFacts(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if score, err := h.read("/proc/self/oom_score_adj"); err != nil || score != "0" {
				t.Errorf("the process is left with the score %s (%v)", score, err)
			}
		})
	}
}

func equalFacts(a, b Facts) bool {
	return a.Kernel == b.Kernel && a.Systemd == b.Systemd && a.Container == b.Container && a.UserNamespace == b.UserNamespace &&
		a.CgroupVersion == b.CgroupVersion && a.CgroupDriver == b.CgroupDriver && a.OwnCgroup == b.OwnCgroup &&
		a.ProxyMode == b.ProxyMode && a.IPv6 == b.IPv6 && a.ConntrackWritable == b.ConntrackWritable &&
		a.RestrictOOMScoreAdj == b.RestrictOOMScoreAdj && a.Swap == b.Swap
}

func TestWhatAHostLacksIsListedWithItsMend(t *testing.T) {
	tests := []struct {
		name string
		tree string // debian-v2-systemd unless set
		lack func(t *testing.T, h *fakeHost, o *Options)
		want []string // each in the one list
	}{
		{name: "not root, and then nothing else is said", lack: func(_ *testing.T, h *fakeHost, _ *Options) { h.euid = 1000 },
			want: []string{"1 thing is missing", "not started by root", "sudo skiff"}},
		{name: "several things at once, numbered", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			delete(h.programs, "mount")
			delete(h.programs, "nft")
			h.remove(t, "/dev/kmsg")
		}, want: []string{"3 things are missing", " 1. there is no program mount", "apt-get install mount",
			"2. there is no packet filter", "no program nft in the PATH; there is no program iptables", "apt-get install nftables",
			"3. /dev/kmsg", "mknod -m 0600 /dev/kmsg c 1 11"}},
		{name: "a program by another distribution's package name", tree: "container-v2",
			lack: func(_ *testing.T, h *fakeHost, _ *Options) { delete(h.programs, "umount") },
			want: []string{"no program umount", "dnf install util-linux"}},
		{name: "a Raspberry Pi's memory controller, version 2", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.set(t, "/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
		}, want: []string{"memory cgroup controller is switched off", "cgroup_enable=memory", "/boot/firmware/cmdline.txt"}},
		{name: "a Raspberry Pi's memory controller, version 1", tree: "bare-v1", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.replace(t, "/proc/cgroups", "memory\t4\t16\t1", "memory\t0\t16\t0")
			h.replace(t, "/proc/self/mountinfo", "34 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n", "")
		}, want: []string{"memory cgroup controller is switched off", "cgroup_enable=memory"}},
		{name: "a version 1 controller that nobody mounted", tree: "bare-v1", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.replace(t, "/proc/self/mountinfo", "38 30 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n", "")
		}, want: []string{"pids is not mounted", "mkdir -p /sys/fs/cgroup/pids && mount -t cgroup -o pids cgroup /sys/fs/cgroup/pids"}},
		{name: "a controller that was not delegated", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.set(t, "/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
		}, want: []string{"cgroup controller cpuset is not available", "Delegate=yes"}},
		{name: "cgroups of an unprivileged container", tree: "container-v2", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.replace(t, "/proc/self/mountinfo", "/sys/fs/cgroup rw,nosuid", "/sys/fs/cgroup ro,nosuid")
		}, want: []string{"mounted read-only", "--privileged"}},
		{name: "no cgroups at all", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.set(t, "/proc/self/mountinfo", "27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n")
		}, want: []string{"no cgroups are mounted", "mount -t cgroup2"}},
		{name: "a proxy mode that was asked for", lack: func(_ *testing.T, _ *fakeHost, o *Options) { o.ProxyMode = ProxyIPTables },
			want: []string{"mode iptables was asked for", "apt-get install iptables"}},
		{name: "nftables on an old kernel, when asked for", lack: func(_ *testing.T, h *fakeHost, o *Options) {
			o.ProxyMode = ProxyNFTables
			h.release = "5.10.0-28-arm64"
		}, want: []string{"mode nftables was asked for", "the kernel is 5.10.0-28-arm64, and 5.13 is needed"}},
		{name: "kernel settings with protect-kernel-defaults", tree: "bare-v1",
			lack: func(_ *testing.T, _ *fakeHost, o *Options) { o.ProtectKernelDefaults = true },
			want: []string{"vm.overcommit_memory is 0 and has to be 1", "sysctl -w kernel.panic=10", "/etc/sysctl.d/90-skiff.conf"}},
		{name: "kernel settings out of reach in a container", lack: func(t *testing.T, h *fakeHost, _ *Options) {
			h.set(t, "/proc/sys/kernel/panic", "0\n")
			h.readOnly = []string{"/proc/sys/"}
		}, want: []string{"1 thing", "kernel.panic is 0 and cannot be set to 10 from here", "on the host outside: sysctl -w kernel.panic=10"}},
		{name: "an overlay on an overlay", tree: "container-v2", lack: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.mount = func(string, string, string, uintptr, string) error { return unix.EINVAL }
		}, want: []string{"an overlay cannot be mounted in /", "on a volume", "--snapshotter native"}},
		{name: "a kernel without overlays", lack: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.mount = func(string, string, string, uintptr, string) error { return unix.ENODEV }
		}, want: []string{"no overlay file system", "modprobe overlay"}},
		{name: "a full disk", lack: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.statfs = func(string) (unix.Statfs_t, error) {
				return unix.Statfs_t{Bsize: 4096, Blocks: 1 << 20, Bavail: 100}, nil
			}
		}, want: []string{"has 0 MiB left of 4096", "--data-dir"}},
		{name: "a data directory without programs", lack: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.statfs = func(string) (unix.Statfs_t, error) {
				return unix.Statfs_t{Bsize: 4096, Blocks: 1 << 24, Bavail: 1 << 23, Flags: unix.ST_NOEXEC}, nil
			}
		}, want: []string{"noexec", "mount -o remount,exec"}},
		{name: "IPv6 that is switched off", tree: "container-v2", lack: func(_ *testing.T, _ *fakeHost, o *Options) { o.IPv6 = true },
			want: []string{"this host has it switched off", "disable_ipv6=0"}},
		{name: "out-of-memory messages of the kernel", lack: func(t *testing.T, h *fakeHost, _ *Options) { h.remove(t, "/dev/kmsg") },
			want: []string{"/dev/kmsg cannot be opened", "--device /dev/kmsg"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := "debian-v2-systemd"
			if test.tree != "" {
				tree = test.tree
			}
			h, opts := newFakeHost(t, tree), nodeOptions()
			test.lack(t, h, &opts)
			_, err := inspect(t.Context(), h.system, opts)
			if err == nil {
				t.Fatal("nothing was found missing")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the list does not say %q:\n%v", part, err)
				}
			}
			if left, _ := filepath.Glob(h.path("/.skiff-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestWeaknessesAreWarnedOfAndBecomeFacts(t *testing.T) {
	tests := []struct {
		name  string
		tree  string
		weak  func(t *testing.T, h *fakeHost, o *Options)
		want  []string
		check func(f Facts) bool
	}{
		{name: "an old nft leads to iptables", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.programs["nft"] = "nftables v0.9.8 (E.D.S.)"
			h.programs["iptables"], h.programs["iptables-save"], h.programs["iptables-restore"] = "", "", ""
		}, want: []string{"forwarded by iptables", `"nftables v0.9.8 (E.D.S.)", and 1.0.1 is needed`},
			check: func(f Facts) bool { return f.ProxyMode == ProxyIPTables }},
		{name: "a kernel that refuses the rules leads to iptables", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.programs["nft"] = "!Error: Could not process rule: No such file or directory"
			h.system.run = func(_ context.Context, _, _ string, args ...string) (string, error) {
				if args[0] == "--check" {
					return "", errors.New("no such expression: numgen")
				}
				return "nftables v1.0.6 (x)", nil
			}
			h.programs["iptables"], h.programs["iptables-save"], h.programs["iptables-restore"] = "", "", ""
		}, want: []string{"the kernel does not take the rules: no such expression: numgen"},
			check: func(f Facts) bool { return f.ProxyMode == ProxyIPTables }},
		{name: "without CAP_SYS_RESOURCE scores are restricted", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.readOnly = []string{"/proc/self/oom_score_adj"}
		}, want: []string{"CAP_SYS_RESOURCE"}, check: func(f Facts) bool { return f.RestrictOOMScoreAdj }},
		{name: "in a network namespace connection tracking is left alone", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.readOnly = []string{"/proc/sys/net/netfilter/nf_conntrack_max"}
		}, check: func(f Facts) bool { return !f.ConntrackWritable }},
		{name: "in a network namespace the hash size is left alone", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.readOnly = []string{conntrackHashsize}
		}, check: func(f Facts) bool { return !f.ConntrackWritable }},
		{name: "cgroup version 1 and swap", tree: "bare-v1", want: []string{"cgroup version 1", "swapoff -a"},
			check: func(f Facts) bool { return f.CgroupVersion == 1 && f.Swap }},
		{name: "a user namespace is recognised", weak: func(t *testing.T, h *fakeHost, _ *Options) {
			h.set(t, "/proc/self/uid_map", "0 100000 65536\n")
			h.set(t, "/proc/sys/kernel/panic", "0\n")
			h.readOnly = []string{"/proc/sys/kernel"}
		}, want: []string{"in a user namespace"}, check: func(f Facts) bool { return f.UserNamespace }},
		{name: "a disk that is nearly full", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.statfs = func(string) (unix.Statfs_t, error) {
				return unix.Statfs_t{Bsize: 4096, Blocks: 1 << 24, Bavail: 1 << 20}, nil
			}
		}, want: []string{"6 % of its space left"}},
		{name: "a clock that nobody set", weak: func(_ *testing.T, h *fakeHost, _ *Options) {
			h.system.now = func() time.Time { return time.Unix(0, 0) }
		}, want: []string{"the clock says 1970"}},
		{name: "a part of the tree that is no slice is used without systemd", weak: func(_ *testing.T, _ *fakeHost, o *Options) {
			o.CgroupRoot = "/skiff"
		}, check: func(f Facts) bool { return f.CgroupDriver == DriverCgroupfs && f.Systemd }},
		{name: "without the node part little is asked", weak: func(_ *testing.T, h *fakeHost, o *Options) {
			o.Node = false
			clear(h.programs)
		}, check: func(f Facts) bool { return len(f.Warnings) == 0 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := "debian-v2-systemd"
			if test.tree != "" {
				tree = test.tree
			}
			h, opts := newFakeHost(t, tree), nodeOptions()
			if test.weak != nil {
				test.weak(t, h, &opts)
			}
			f, err := inspect(t.Context(), h.system, opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range test.want {
				if !strings.Contains(texts(f.Warnings), part) {
					t.Errorf("no warning says %q:\n%s", part, texts(f.Warnings))
				}
			}
			if test.check != nil && !test.check(f) {
				t.Errorf("facts %+v", f)
			}
		})
	}
}

func TestVersionsAreComparedByNumber(t *testing.T) {
	tests := []struct {
		version, minimum string
		want             bool
	}{
		{"6.1.0-18-amd64", "5.13", true}, {"5.13.0", "5.13", true}, {"5.13", "5.13", true}, {"5.9.1", "5.13", false},
		{"5.10.0-28", "5.13", false}, {"6.18.44-fc-v657", "5.13", true}, {"1.0.10", "1.0.1", true}, {"1.0.0", "1.0.1", false},
		{"0.9.8", "1.0.1", false}, {"1.1", "1.0.1", true}, {"", "5.13", false}, {"5", "5.13", false},
	}
	for _, test := range tests {
		if got := atLeast(test.version, test.minimum); got != test.want {
			t.Errorf("%q at least %q: %v, want %v", test.version, test.minimum, got, test.want)
		}
	}
}
