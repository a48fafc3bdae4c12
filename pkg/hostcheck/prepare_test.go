package hostcheck

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrepareMendsWhatItMay(t *testing.T) {
	h := newFakeHost(t, "bare-v1")
	h.limit = unix.Rlimit{Cur: 1024, Max: 1 << 20}
	opts := nodeOptions()
	opts.CgroupRoot = "/skiff/one"
	f, err := inspect(t.Context(), h.system, opts)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel's answer to modprobe: settings that were not there.
	run := h.run
	h.system.tryLink = func(string) error { return nil }
	h.system.run = modprobeMakes(t, h, run, map[string][]string{
		"br_netfilter": {"/proc/sys/net/bridge/bridge-nf-call-iptables"},
		"nf_conntrack": {conntrackMax, conntrackHashsize,
			"/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"},
	})
	f, err = prepare(t.Context(), h.system, f, quiet())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward":                   "1",
		"/proc/sys/net/bridge/bridge-nf-call-iptables":    "1",
		"/proc/sys/fs/inotify/max_user_instances":         "8192",
		"/proc/sys/fs/inotify/max_user_watches":           "524288",
		"/sys/fs/cgroup/cpuset/skiff/cpuset.cpus":         "0-1",
		"/sys/fs/cgroup/cpuset/skiff/one/cpuset.mems":     "0",
		"/proc/sys/vm/overcommit_memory":                  "0", // the kubelet's to set
		"/proc/sys/kernel/panic":                          "0",
		"/proc/sys/net/ipv6/conf/all/forwarding (absent)": "",
	} {
		if got, _ := h.read(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	for _, controller := range []string{"cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids", "systemd"} {
		if !h.exists("/sys/fs/cgroup/" + controller + "/skiff/one") {
			t.Errorf("there is no cgroup for %s", controller)
		}
	}
	if !f.ConntrackWritable {
		t.Error("connection tracking is not found writable after its module was loaded")
	}
	if h.limit.Cur != 1<<20 {
		t.Errorf("open files are limited to %d", h.limit.Cur)
	}
	if !slices.Contains(h.mounted, "") {
		t.Error("mounts were not shared")
	}
	for _, want := range []string{"load the kernel module br_netfilter", "set net.ipv4.ip_forward=1", "share mounts below / (/ was private)"} {
		if !slices.Contains(f.Done, want) {
			t.Errorf("%q is not among %q", want, f.Done)
		}
	}
}

// modprobeMakes lets files appear when a module is loaded.
func modprobeMakes(t *testing.T, h *fakeHost, run func(context.Context, string, string, ...string) (string, error), files map[string][]string) func(context.Context, string, string, ...string) (string, error) {
	return func(ctx context.Context, stdin, name string, args ...string) (string, error) {
		if name == "modprobe" {
			for _, path := range files[args[0]] {
				h.set(t, path, "0\n")
			}
		}
		return run(ctx, stdin, name, args...)
	}
}

func TestASecondPrepareDoesNothing(t *testing.T) {
	for _, tree := range []string{"debian-v2-systemd", "container-v2"} {
		t.Run(tree, func(t *testing.T) {
			h := newFakeHost(t, tree)
			for i := range 2 {
				f, err := inspect(t.Context(), h.system, nodeOptions())
				if err != nil {
					t.Fatal(err)
				}
				if f, err = prepare(t.Context(), h.system, f, quiet()); err != nil {
					t.Fatal(err)
				}
				if i == 1 || tree == "debian-v2-systemd" {
					if len(f.Done) > 0 {
						t.Errorf("did %q", f.Done)
					}
				}
				// What the kernel would say after the processes have moved.
				if tree == "container-v2" {
					h.set(t, "/sys/fs/cgroup/cgroup.procs", "")
					h.set(t, "/proc/self/mountinfo", "900 800 0:90 / / rw shared:1 - overlay overlay rw\n902 900 0:25 / /sys/fs/cgroup rw shared:2 - cgroup2 cgroup rw\n")
				}
			}
		})
	}
}

func TestAContainersProcessesMoveOutOfItsRootCgroup(t *testing.T) {
	h := newFakeHost(t, "container-v2")
	var moved []string
	open := h.openWrite
	h.system.openWrite = func(path string) (*os.File, error) {
		if strings.HasSuffix(path, "/init/cgroup.procs") {
			moved = append(moved, path)
		}
		return open(path)
	}
	f, err := inspect(t.Context(), h.system, nodeOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t.Context(), h.system, f, quiet()); err != nil {
		t.Fatal(err)
	}
	if len(moved) != 2 {
		t.Errorf("%d of 2 processes were moved", len(moved))
	}
	if got, _ := h.read("/sys/fs/cgroup/cgroup.subtree_control"); got != "+cpu +cpuset +memory +pids" {
		t.Errorf("handed down: %q", got)
	}
}

func TestIPv6ForwardingKeepsRouterAdvertisements(t *testing.T) {
	h, opts := newFakeHost(t, "debian-v2-systemd"), nodeOptions()
	opts.IPv6 = true
	f, err := inspect(t.Context(), h.system, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t.Context(), h.system, f, quiet()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"forwarding": "1", "accept_ra": "2", "../eth0/accept_ra": "2", "../wlan0/accept_ra": "0",
	} {
		if got, _ := h.read("/proc/sys/net/ipv6/conf/all/" + path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestWhatCannotBeMendedIsListedOrWarnedOf(t *testing.T) {
	h := newFakeHost(t, "bare-v1")
	h.limit = unix.Rlimit{Cur: 1024, Max: 4096}
	delete(h.programs, "modprobe")
	h.readOnly = []string{"/proc/sys/fs", "/proc/sys/net"}
	f, err := inspect(t.Context(), h.system, nodeOptions())
	if err != nil {
		t.Fatal(err)
	}
	f, err = prepare(t.Context(), h.system, f, quiet())
	problems := problemsOf(t, err)
	for _, want := range []string{
		"could not load the kernel module br_netfilter: there is no program modprobe",
		"modprobe br_netfilter && echo br_netfilter > /etc/modules-load.d/",
		"could not load the kernel module vxlan", "linux-modules-extra-6.1.0-18-amd64", "--flannel-backend host-gw",
		"could not set net.ipv4.ip_forward=1: permission denied", "sysctl -w net.ipv4.ip_forward=1",
	} {
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("the list does not say %q:\n%v", want, problems)
		}
	}
	for _, want := range []string{"fs.inotify.max_user_instances=8192", "limit of open files, which is 4096", "nf_conntrack"} {
		if !strings.Contains(texts(f.Warnings), want) {
			t.Errorf("no warning says %q:\n%s", want, texts(f.Warnings))
		}
		if strings.Contains(problems.Error(), want) {
			t.Errorf("%q keeps the host from being used", want)
		}
	}
	if h.limit.Cur != 4096 {
		t.Errorf("open files are limited to %d, although 4096 may be had", h.limit.Cur)
	}
}

func TestAnotherPodNetworkMayDoWithoutTheBridge(t *testing.T) {
	h, opts := newFakeHost(t, "debian-v2-systemd"), nodeOptions()
	opts.FlannelBackend = "none"
	h.remove(t, "/proc/sys/net/bridge")
	h.programs["modprobe"] = "!FATAL: Module br_netfilter not found"
	f, err := inspect(t.Context(), h.system, opts)
	if err != nil {
		t.Fatal(err)
	}
	if f, err = prepare(t.Context(), h.system, f, quiet()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(texts(f.Warnings), "br_netfilter") {
		t.Errorf("no warning: %s", texts(f.Warnings))
	}
}
