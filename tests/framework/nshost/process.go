package nshost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cmd is a command to be run inside a host. Nil streams are /dev/null.
type Cmd struct {
	Args   []string
	Env    []string // added to the environment of a login
	Dir    string   // inside the host, default /
	UID    uint32   // 0 is root
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Detach bool // goes on when the creator ends; its streams must be files
	TTY    bool // Stdin is a terminal that the command shall control
}

// Exit tells how a process ended. Code is 128 plus the signal for a killed one.
type Exit struct {
	Code   int
	Signal syscall.Signal
}

// ExitError is what Run returns for a command that did not succeed.
type ExitError struct {
	Args   []string
	Exit   Exit
	Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit status %d\n%s", strings.Join(e.Args, " "), e.Exit.Code, e.Stderr)
}

// Process is a process inside a host. Its methods are safe for concurrent use.
type Process struct {
	PID  int // inside the host
	conn *net.UnixConn
	mu   sync.Mutex // guards writing to conn
	done chan struct{}
	exit Exit
	err  error
}

// Done is closed when the process has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until Done. Its error says that contact with the init was lost.
func (p *Process) Wait() (Exit, error) {
	<-p.done
	return p.exit, p.err
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := json.NewEncoder(p.conn).Encode(order{Signal: int(sig)})
	select {
	case <-p.done:
		return nil
	default:
		return err
	}
}

// outputGrace is how long output is read after a process has ended, should a
// descendant of it still hold the pipe.
const outputGrace = time.Second

// Start runs a command and does not wait for it. When ctx ends it is killed,
// unless it is detached.
func (h *Host) Start(ctx context.Context, c Cmd) (*Process, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.spec.control(), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("reaching the init of host %s: %w", h.spec.ID, err)
	}
	streams, err := openStreams(c)
	if err != nil {
		conn.Close()
		return nil, err
	}
	r := request{Args: c.Args, Env: c.Env, Dir: c.Dir, UID: c.UID, Detach: c.Detach, TTY: c.TTY}
	err = sendRequest(conn, r, streams.child)
	streams.closeChild()
	decoder := json.NewDecoder(conn)
	var e event
	if err == nil {
		err = decoder.Decode(&e)
	}
	if err == nil && e.Error != "" {
		err = errors.New(e.Error)
	}
	if err != nil {
		conn.Close()
		streams.abandon()
		return nil, fmt.Errorf("running %s in host %s: %w", strings.Join(c.Args, " "), h.spec.ID, err)
	}
	p := &Process{PID: e.PID, conn: conn, done: make(chan struct{})}
	stop := func() bool { return true }
	if !c.Detach {
		stop = context.AfterFunc(ctx, func() { _ = p.Signal(syscall.SIGKILL) })
	}
	go func() {
		defer close(p.done)
		defer stop()
		p.await(decoder)
		streams.drain()
	}()
	return p, nil
}

func (p *Process) await(events *json.Decoder) {
	defer p.conn.Close()
	for {
		var e event
		if err := events.Decode(&e); err != nil {
			p.exit, p.err = Exit{Code: -1}, fmt.Errorf("the host's init went away: %w", err)
			return
		}
		if e.Exited {
			p.exit = Exit{Code: e.Code, Signal: syscall.Signal(e.Signal)}
			return
		}
	}
}

// Run runs a command and waits for it. The error is an *ExitError when the
// command ran and did not succeed.
func (h *Host) Run(ctx context.Context, c Cmd) error {
	var kept bytes.Buffer
	if c.Stderr == nil {
		c.Stderr = &kept
	}
	p, err := h.Start(ctx, c)
	if err != nil {
		return err
	}
	exit, err := p.Wait()
	if err != nil {
		return err
	}
	if ctx.Err() != nil && exit.Code != 0 {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), context.Cause(ctx))
	}
	if exit.Code != 0 {
		return &ExitError{Args: c.Args, Exit: exit, Stderr: kept.String()}
	}
	return nil
}

// streams connects a command's readers and writers to the files that travel
// to the init.
type streams struct {
	child   []*os.File
	close   []*os.File // of child, those that were opened here
	parent  []*os.File
	copying sync.WaitGroup
}

func openStreams(c Cmd) (*streams, error) {
	s := &streams{}
	if err := s.input(c.Stdin); err != nil {
		return nil, err
	}
	if err := s.output(c.Stdout); err != nil {
		return nil, err
	}
	if c.Stderr != nil && c.Stderr == c.Stdout {
		s.child = append(s.child, s.child[1])
		return s, nil
	}
	return s, s.output(c.Stderr)
}

func (s *streams) input(r io.Reader) error {
	if f, ok := r.(*os.File); ok {
		s.child = append(s.child, f)
		return nil
	}
	if r == nil {
		return s.null(os.O_RDONLY)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	s.child, s.close, s.parent = append(s.child, theirs), append(s.close, theirs), append(s.parent, ours)
	go func() {
		// A command that does not read to the end is no error.
		_, _ = io.Copy(ours, r)
		ours.Close()
	}()
	return nil
}

func (s *streams) output(w io.Writer) error {
	if f, ok := w.(*os.File); ok {
		s.child = append(s.child, f)
		return nil
	}
	if w == nil {
		return s.null(os.O_WRONLY)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	s.child, s.close, s.parent = append(s.child, theirs), append(s.close, theirs), append(s.parent, ours)
	s.copying.Go(func() { _, _ = io.Copy(w, ours) })
	return nil
}

func (s *streams) null(flag int) error {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err != nil {
		return err
	}
	s.child, s.close = append(s.child, f), append(s.close, f)
	return nil
}

func (s *streams) closeChild() {
	for _, f := range s.close {
		f.Close()
	}
}

func (s *streams) abandon() {
	for _, f := range s.parent {
		f.Close()
	}
	s.copying.Wait()
}

func (s *streams) drain() {
	limit := time.AfterFunc(outputGrace, func() {
		for _, f := range s.parent {
			_ = f.SetReadDeadline(time.Now())
		}
	})
	s.copying.Wait()
	limit.Stop()
	s.abandon()
}
