package nshost

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The init is the program that called New, started again with these.
const (
	stageVariable     = "SKIFF_NSHOST_STAGE"
	directoryVariable = "SKIFF_NSHOST_DIR"
)

// File descriptors that the init inherits. The lifeline is a pipe whose other
// end the creator holds open and never writes to.
const (
	goFD = 3 + iota
	readyFD
	controlFD
	lifelineFD
	dnsPacketFD
	dnsStreamFD
)

// RunInit turns the process into a host's init if it was started as one, and
// then never returns. Every program that calls New calls it first.
func RunInit() {
	stage := os.Getenv(stageVariable)
	if stage == "" {
		return
	}
	s, err := loadSpec(os.Getenv(directoryVariable))
	if err == nil {
		switch stage {
		case "1":
			err = enterCgroupNamespace()
		default:
			err = runInit(s)
		}
	}
	fmt.Fprintf(os.Stderr, "the init of host %s: %v\n", s.ID, err)
	os.Exit(1)
}

// enterCgroupNamespace waits until the creator has put this process into the
// host's cgroups, makes them the roots that the host sees, and starts the
// program again: a cgroup namespace belongs to a thread, so this thread has to
// become the whole process.
func enterCgroupNamespace() error {
	runtime.LockOSThread()
	if err := waitForGo(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unsharing the cgroup namespace: %w", err)
	}
	for fd := readyFD; fd <= dnsStreamFD; fd++ {
		// Descriptors that were not inherited give an error that does not matter.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	env := []string{stageVariable + "=2", directoryVariable + "=" + os.Getenv(directoryVariable)}
	return unix.Exec("/proc/self/exe", []string{"skiff-host-init"}, env)
}

func waitForGo() error {
	f := os.NewFile(goFD, "go")
	defer f.Close()
	if n, _ := f.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the creator went away")
	}
	return nil
}

func runInit(s spec) error {
	os.Clearenv()
	ready := os.NewFile(readyFD, "ready")
	control := os.NewFile(controlFD, "control")
	lifeline := os.NewFile(lifelineFD, "lifeline")
	var names []*os.File
	if s.Nameserver {
		names = []*os.File{os.NewFile(dnsPacketFD, "dns-udp"), os.NewFile(dnsStreamFD, "dns-tcp")}
	}
	for fd := readyFD; fd <= dnsStreamFD; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := setUp(s); err != nil {
		fmt.Fprint(ready, err.Error())
		return err
	}
	stopNames, err := serveNames(s, names)
	if err != nil {
		fmt.Fprint(ready, err.Error())
		return err
	}
	defer stopNames()
	server, err := newControlServer(control)
	if err != nil {
		fmt.Fprint(ready, err.Error())
		return err
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	if s.Lifeline {
		go func() {
			_, _ = io.Copy(io.Discard, lifeline)
			os.Exit(0) // the kernel kills everything in the namespace
		}()
	}
	ready.Close()
	return server.serve()
}

func setUp(s spec) error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := leaveRootCgroup(s); err != nil {
		return err
	}
	if err := buildRoot(s); err != nil {
		return err
	}
	// For people who look at the processes; at most 15 characters.
	if err := os.WriteFile("/proc/self/comm", []byte("skiff-host-init"), 0o644); err != nil {
		return err
	}
	return configureLinks(s)
}

// leaveRootCgroup moves the init one level down where version 2 is in use for
// controllers: a cgroup with processes of its own cannot hand controllers on.
func leaveRootCgroup(s spec) error {
	for _, h := range s.Cgroups {
		if h.Type != "cgroup2" || len(s.Cgroups) > 1 {
			continue
		}
		leaf := filepath.Join(h.Path, "init")
		if err := os.MkdirAll(leaf, 0o755); err != nil {
			return fmt.Errorf("making the init's cgroup: %w", err)
		}
		// 0 stands for the writer, whatever its number is in this namespace.
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("moving the init into its cgroup: %w", err)
		}
	}
	return nil
}

// environment is what a process inside starts with, as after a login.
func environment(extra []string) []string {
	base := []string{
		"PATH=" + strings.Join([]string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":"),
		"HOME=/root", "USER=root", "SHELL=/bin/sh", "LANG=C.UTF-8", "TERM=xterm",
	}
	// Programs differ in which of two values of one variable counts for them.
	given := func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.ContainsFunc(extra, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	return append(slices.DeleteFunc(base, given), extra...)
}
