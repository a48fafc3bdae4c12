package nshost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config describes a host to be made.
type Config struct {
	ID       string // unique on the machine, at most 12 characters of [a-z0-9]
	Hostname string // default ID
	Base     string // directory of the machine below which hosts live, on a real disk
	Network  *Network
	Binds    []Bind
	// Permanent hosts go on when their creator ends; Load finds them again.
	Permanent bool
	// Names, if set, are two sockets (packet, stream) on the network's gateway
	// address on which the init answers DNS queries; see serveNames.
	Names []*os.File
}

// Host is a running host.
type Host struct {
	config   Config // of New; empty for loaded ones
	spec     spec
	lifeline *os.File // nil for permanent and loaded ones
	init     *exec.Cmd

	mu        sync.Mutex // guards what follows
	addresses []netip.Prefix
	faults    Faults
}

// startTimeout bounds how long an init may take to set its host up.
const startTimeout = 20 * time.Second

// stopTimeout bounds the removal of a host: the kernel needs seconds for the
// network namespaces of many pods.
const stopTimeout = 30 * time.Second

// New makes a host and returns when its init takes orders.
func New(ctx context.Context, c Config) (*Host, error) {
	s, err := prepare(c)
	if err != nil {
		return nil, err
	}
	h := &Host{spec: s, config: c, addresses: s.Addresses}
	if err := h.boot(ctx); err != nil {
		return h, errors.Join(fmt.Errorf("making host %s: %w", c.ID, err), h.Close())
	}
	return h, nil
}

// Boot starts a host again that Stop has stopped, with the files, addresses
// and faults that it had. It must not run at the same time as other methods.
func (h *Host) Boot(ctx context.Context) error {
	if h.config.Network == nil {
		return fmt.Errorf("host %s was made by another process", h.spec.ID)
	}
	h.spec.Addresses = h.addresses
	if err := h.boot(ctx); err != nil {
		return errors.Join(fmt.Errorf("starting host %s again: %w", h.spec.ID, err), h.Stop())
	}
	return h.applyFaults(ctx)
}

func (h *Host) boot(ctx context.Context) (err error) {
	if h.spec.Cgroups, err = createCgroups("skifftest-" + h.spec.ID); err != nil {
		return err
	}
	if err := h.spec.save(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return h.start(ctx)
}

func prepare(c Config) (spec, error) {
	if c.Hostname == "" {
		c.Hostname = c.ID
	}
	dir := filepath.Join(c.Base, c.ID)
	s := spec{
		ID: c.ID, Hostname: c.Hostname, Dir: dir, Bridge: c.Network.Name, Link: linkPrefix + c.ID,
		Binds: c.Binds, Addresses: c.Network.next(), Gateways: c.Network.Gateways,
		Lifeline: !c.Permanent, Nameserver: len(c.Names) == 2,
	}
	if err := os.MkdirAll(c.Base, 0o711); err != nil {
		return s, err
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return s, fmt.Errorf("making host %s: %w", c.ID, err)
	}
	return s, nil
}

// start runs the init and leads it through its set-up.
func (h *Host) start(ctx context.Context) error {
	// A host that ran before has left its socket.
	if err := os.Remove(h.spec.control()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.spec.control(), Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	control, err := listener.File()
	if err != nil {
		return err
	}
	defer control.Close()
	defer listener.Close()
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer goWrite.Close()
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyRead.Close()
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	h.init = initCommand(h.spec.Dir)
	h.init.ExtraFiles = append([]*os.File{goRead, readyWrite, control, lifeRead}, h.config.Names...)
	log, err := os.OpenFile(filepath.Join(h.spec.Dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h.init.Stdout, h.init.Stderr = log, log
	err = h.init.Start()
	for _, f := range []*os.File{goRead, readyWrite, lifeRead, log} {
		f.Close()
	}
	if err != nil {
		lifeWrite.Close()
		h.init = nil
		return fmt.Errorf("starting the init: %w", err)
	}
	h.lifeline = lifeWrite
	h.spec.PID = h.init.Process.Pid
	return h.lead(ctx, goWrite, readyRead)
}

func initCommand(dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"skiff-host-init"}
	cmd.Env = []string{stageVariable + "=1", directoryVariable + "=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
			unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	return cmd
}

func (h *Host) lead(ctx context.Context, goWrite, readyRead *os.File) error {
	if err := h.spec.save(); err != nil {
		return err
	}
	if err := enterCgroups(h.spec.Cgroups, h.spec.PID); err != nil {
		return err
	}
	if err := plug(h.spec, h.spec.PID); err != nil {
		return err
	}
	if _, err := goWrite.Write([]byte{1}); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = readyRead.SetReadDeadline(deadline)
	}
	message, err := io.ReadAll(readyRead)
	if err != nil {
		return fmt.Errorf("waiting for the init: %w", err)
	}
	if len(message) > 0 {
		return errors.New(string(message))
	}
	if h.config.Permanent {
		h.lifeline.Close()
		h.lifeline = nil
	}
	return nil
}

// Load finds a permanent host that another process made.
func Load(base, id string) (*Host, error) {
	s, err := loadSpec(filepath.Join(base, id))
	if err != nil {
		return nil, fmt.Errorf("finding host %s: %w", id, err)
	}
	return &Host{spec: s, addresses: s.Addresses}, nil
}

// Running says whether the host's init is alive.
func (h *Host) Running() bool {
	c, err := net.Dial("unix", h.spec.control())
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// ID is the host's unique name.
func (h *Host) ID() string { return h.spec.ID }

// Hostname is the name that the host has inside.
func (h *Host) Hostname() string { return h.spec.Hostname }

// Address is the host's address of the network's first family, which the
// machine reaches directly.
func (h *Host) Address() netip.Addr { return h.Addresses()[0] }

// Addresses are the host's addresses, one of each family of the network.
func (h *Host) Addresses() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []netip.Addr
	for _, a := range h.addresses {
		all = append(all, a.Addr())
	}
	return all
}

// Gateway is the machine's address on the host's network, of the first family.
func (h *Host) Gateway() netip.Addr { return h.spec.Gateways[0] }

// Directory is the host's directory on the machine.
func (h *Host) Directory() string { return h.spec.Dir }

// PID is the init's process number on the machine.
func (h *Host) PID() int { return h.spec.PID }

// Path is where the machine finds a file of the running host. Absolute
// symbolic links on the way lead astray.
func (h *Host) Path(inside string) string {
	return filepath.Join("/proc", strconv.Itoa(h.spec.PID), "root", inside)
}

// CgroupPath is the machine's path of a cgroup of the host, or "" if the
// hierarchy with that controller does not exist.
func (h *Host) CgroupPath(controller, inside string) string {
	for _, c := range h.spec.Cgroups {
		if c.Type == "cgroup2" && len(h.spec.Cgroups) == 1 || c.Options == controller {
			return filepath.Join(c.Path, inside)
		}
	}
	return ""
}

// Stop ends every process of the host and removes its link and its cgroups.
// Its files stay, and Boot starts it again.
func (h *Host) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := h.killInit(ctx)
	return errors.Join(err, removeLink(h.spec.Link), removeCgroups(ctx, h.spec.Cgroups))
}

// Close is Stop, and removes the host's files too.
func (h *Host) Close() error {
	return errors.Join(h.Stop(), os.RemoveAll(h.spec.Dir))
}

func (h *Host) killInit(ctx context.Context) error {
	if h.lifeline != nil {
		h.lifeline.Close()
		h.lifeline = nil
	}
	if h.init != nil {
		// The kernel reports the death of a pid namespace's first process when
		// all the others in it are gone.
		_ = h.init.Process.Kill()
		_ = h.init.Wait()
		h.init = nil
		return nil
	}
	if h.spec.PID == 0 || !h.Running() {
		return nil
	}
	fd, err := unix.PidfdOpen(h.spec.PID, 0)
	if err != nil {
		return nil // gone between the two
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("killing the init of host %s: %w", h.spec.ID, err)
	}
	return until(ctx, 10*time.Millisecond, func() (bool, error) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n == 1, err
	})
}
