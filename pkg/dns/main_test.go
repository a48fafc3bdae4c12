package dns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

const inNamespace = "SKIFF_DNS_TEST_IN_NAMESPACE"

// TestMain runs all tests in a network namespace of their own, where port 53 is
// free and addresses may be added.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		lo, err := netlink.LinkByName(Loopback)
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "setting lo up:", err)
			os.Exit(1)
		}
		goleak.VerifyTestMain(m, ignored()...)
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case errors.Is(err, syscall.EPERM) && os.Getenv("SKIFF_REQUIRE") == "":
		fmt.Println("skipped: neither root nor allowed to make a user namespace")
	case err != nil:
		fmt.Fprintln(os.Stderr, "a network namespace for the tests cannot be made (root or unprivileged user namespaces are needed):", err)
		os.Exit(1)
	}
}

func ignored() []goleak.Option {
	return []goleak.Option{
		// klog's flush daemon runs as long as the process.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// A name server's connections end with the garbage collection of the
		// Corefile that named it.
		goleak.IgnoreTopFunction("github.com/coredns/coredns/plugin/pkg/proxy.(*Transport).connManager"),
		// A health check that was told to stop sleeps for another 2 s.
		goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/pkg/up.(*Probe).Do.func1"),
	}
}
