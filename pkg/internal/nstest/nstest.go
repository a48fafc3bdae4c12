// Package nstest gives a test a machine of its own: mount, network, process,
// host name and IPC namespaces that are gone, with all that is in them, when
// the test ends. Tests import it, nothing else does.
package nstest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	nameVariable = "SKIFF_NSTEST_NAME"
	dirVariable  = "SKIFF_NSTEST_DIR"
)

// Inside runs the calling test once more in namespaces of its own and is true
// there, with an empty directory on a real file system. Outside it is false
// when that run has passed; what it printed is in the test's log. Call it first
// and return when it is false. Without root the test is skipped.
func Inside(t *testing.T) (dir string, inside bool) {
	t.Helper()
	if os.Getenv(nameVariable) == t.Name() {
		if err := prepare(); err != nil {
			t.Fatalf("prepare the namespaces: %v", err)
		}
		return os.Getenv(dirVariable), true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces and mounts")
	}
	// Pdeathsig counts the end of the thread that starts the process. This one
	// lasts until the process has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), nameVariable+"="+t.Name(), dirVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the run in namespaces of its own failed: %v", err)
	}
	return "", false
}

// volatile are directories that a test may fill without the host seeing it.
var volatile = [...]string{"/run", "/var/lib"}

func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range volatile {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount a tmpfs at %s: %w", dir, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look for the loopback interface: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// Payload is the directory of helper programs that `scripts/payload/build`
// makes, found from the test's directory upwards. A test that needs it and does
// not find it is skipped.
func Payload(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "bin", "payload")
		if _, err := os.Stat(filepath.Join(found, "runc")); err == nil {
			return found
		}
	}
	t.Skip("needs runc and the shim: run scripts/payload/build first")
	return ""
}

// Cgroup is a name for the parent of a test's cgroups that no other test uses.
// The hierarchies are shared with the host; what is below the name is removed
// after the test.
func Cgroup(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("/skiff-test-%d", time.Now().UnixNano())
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			roots, _ := filepath.Glob(pattern + name)
			for _, root := range roots {
				removeCgroups(root)
			}
		}
	})
	return name
}

// removeCgroups ends what still runs in a cgroup and below and removes it.
func removeCgroups(root string) {
	var dirs []string
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		for range 100 {
			kill(dir)
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				break
			}
			time.Sleep(10 * time.Millisecond) // the kernel does not tell when the last process is gone
		}
	}
}

func kill(cgroup string) {
	data, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(data)) {
		// 0 stands for a process outside of this process namespace.
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
