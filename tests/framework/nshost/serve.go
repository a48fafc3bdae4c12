package nshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlServer starts processes for those who connect, and reaps.
type controlServer struct {
	listener *net.UnixListener

	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus // by pid
}

func newControlServer(f *os.File) (*controlServer, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listening for orders: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.New("listening for orders: not a unix socket")
	}
	return &controlServer{listener: ul, waiting: map[int]chan unix.WaitStatus{}}, nil
}

func (s *controlServer) serve() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD) // before there is a child to miss
	go s.reap(ended)
	for {
		c, err := s.listener.AcceptUnix()
		if err != nil {
			return err
		}
		go s.handle(c)
	}
}

// reap collects every child: those that were asked for and the orphans that
// the kernel hands to the first process of a pid namespace.
func (s *controlServer) reap(ended <-chan os.Signal) {
	for range ended {
		for s.reapOne() {
		}
	}
}

func (s *controlServer) reapOne() bool {
	s.mu.Lock() // start holds it until its child's pid is known
	defer s.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err != nil || pid <= 0 {
		return errors.Is(err, unix.EINTR)
	}
	if c := s.waiting[pid]; c != nil {
		delete(s.waiting, pid)
		c <- status
	}
	return true
}

func (s *controlServer) handle(c *net.UnixConn) {
	defer c.Close()
	events := json.NewEncoder(c)
	r, files, err := receiveRequest(c)
	if err != nil {
		_ = events.Encode(event{Error: err.Error()})
		return
	}
	pid, exit, err := s.start(r, files)
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		_ = events.Encode(event{Error: err.Error()})
		return
	}
	if err := events.Encode(event{PID: pid}); err != nil && !r.Detach {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	go s.obey(c, pid, r.Detach)
	status := <-exit
	e := event{Exited: true, Code: status.ExitStatus()}
	if status.Signaled() {
		e.Signal, e.Code = int(status.Signal()), 128+int(status.Signal())
	}
	_ = events.Encode(e)
}

// obey passes signals on; when the other side goes away so does the process.
func (s *controlServer) obey(c *net.UnixConn, pid int, detach bool) {
	orders := json.NewDecoder(c)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if !detach {
				s.signal(pid, unix.SIGKILL)
			}
			return
		}
		s.signal(pid, syscall.Signal(o.Signal))
	}
}

// signal reaches only a process that has not been reaped yet.
func (s *controlServer) signal(pid int, sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[pid] != nil {
		_ = unix.Kill(pid, sig)
	}
}

func (s *controlServer) start(r request, files []*os.File) (int, <-chan unix.WaitStatus, error) {
	env := environment(r.Env)
	path, err := lookPath(r.Args, env)
	if err != nil {
		return 0, nil, err
	}
	attr := &syscall.ProcAttr{
		Dir: r.Dir, Env: env,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: r.TTY},
	}
	if r.UID != 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: r.UID, Gid: r.UID}
	}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := syscall.ForkExec(path, r.Args, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", path, err)
	}
	exit := make(chan unix.WaitStatus, 1)
	s.waiting[pid] = exit
	return pid, exit, nil
}

func lookPath(args, env []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("no command")
	}
	if strings.Contains(args[0], "/") {
		return args[0], nil
	}
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(list, ":") {
			path := dir + "/" + args[0]
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", args[0], exec.ErrNotFound)
}
