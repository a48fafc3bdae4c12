package hostcheck

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespaces runs the calling test again in network and mount namespaces of
// its own and says whether this is that run. Only there may it change things.
func inNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making namespaces takes root")
	}
	const sign = "SKIFF_HOSTCHECK_NAMESPACES"
	if os.Getenv(sign) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), sign+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in namespaces: %v", err)
	}
	return false
}

func TestThisMachine(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	opts := Options{DataDir: t.TempDir(), Node: true, FlannelBackend: "vxlan", Overlay: true}
	limit, err := newSystem().getrlimit()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	f, err := Inspect(t.Context(), opts)
	t.Logf("took %s; %+v", time.Since(start), f)
	if err != nil {
		t.Fatal(err) // a machine that cannot run the product cannot run its tests
	}
	if f.CgroupVersion == 0 || f.CgroupDriver == "" || f.ProxyMode == "" {
		t.Errorf("unknown: %+v", f)
	}
	if f.ConntrackWritable {
		t.Error("connection tracking is said to be writable in a network namespace")
	}
	if score, err := os.ReadFile("/proc/self/oom_score_adj"); err != nil || strings.TrimSpace(string(score)) == "-998" {
		t.Errorf("the process keeps the score %s (%v)", score, err)
	}
	if left, err := os.ReadDir(opts.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left behind in the data directory: %v (%v)", left, err)
	}
	// What the process may change outside of its namespaces is left out.
	kept := f.pending[:0]
	for _, c := range f.pending {
		if !strings.Contains(c.what, "inotify") && !strings.Contains(c.what, "module") {
			kept = append(kept, c)
		}
	}
	f.pending = kept
	if f, err = Prepare(t.Context(), f, quiet()); err != nil {
		t.Fatal(err)
	}
	t.Logf("did %q, warnings:\n%s", f.Done, texts(f.Warnings))
	s := newSystem()
	if got, _ := s.read("/proc/sys/net/ipv4/ip_forward"); got != "1" {
		t.Errorf("forwarding is %s", got)
	}
	mounts, err := s.mounts()
	if err != nil {
		t.Fatal(err)
	}
	if root, ok := mountOf(mounts, "/"); !ok || !root.shared {
		t.Errorf("mounts below / are not shared: %+v", root)
	}
	if after, err := s.getrlimit(); err != nil || after.Max < limit.Max {
		t.Errorf("the limit of open files went from %d to %d (%v)", limit.Max, after.Max, err)
	}
}

func TestLinksAreTriedInANamespaceOfTheirOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making namespaces takes root")
	}
	if err := tryLink("vxlan"); err != nil {
		t.Errorf("vxlan: %v", err)
	}
	if err := tryLink("no-such-kind"); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("a kind that no kernel has: %v", err)
	}
	if _, err := os.Stat("/sys/class/net/skiff-probe"); err == nil {
		t.Error("the interface was made in the machine's own namespace")
	}
}

func TestTheRulesForNFTAreAcceptedAndNotApplied(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	s := newSystem()
	nft, err := s.lookPath("nft")
	if err != nil {
		t.Skip("there is no nft on this machine")
	}
	if err := s.checkNFT(t.Context(), true); err != nil {
		t.Error(err)
	}
	if out, err := s.run(t.Context(), "", nft, "list", "tables"); err != nil || out != "" {
		t.Errorf("tables afterwards: %q (%v)", out, err)
	}
}

func TestACgroupOfOurOwnIsMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making cgroups takes root")
	}
	s := newSystem()
	mounts, err := s.mounts()
	if err != nil {
		t.Fatal(err)
	}
	at := hierarchies(mounts)
	if len(at) == 0 {
		t.Skip("this machine has no cgroup version 1")
	}
	name := "skiff-hostcheck-test"
	for _, controller := range []string{"cpuset", "memory"} {
		dir := cgroupDir(at[controller], name)
		if err := s.makeCgroupV1(dir + "/inner"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, d := range []string{dir + "/inner", dir} {
				if err := os.Remove(d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if cpus, err := s.read(cgroupDir(at["cpuset"], name) + "/inner/cpuset.cpus"); err != nil || cpus == "" {
		t.Errorf("it has the processors %q (%v)", cpus, err)
	}
}
