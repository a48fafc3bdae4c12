package framework

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// ReadyTimeout is how long a server or an agent may take until its node is
// Ready. It is generous: other tests load the same two cores.
const ReadyTimeout = 5 * time.Minute

// StopTimeout is what the documentation promises for SIGTERM.
const StopTimeout = 10 * time.Second

// Daemon is what a running `skiff server` and a running `skiff agent` have in
// common.
type Daemon struct {
	*nshost.Process
	Host *Host
	role string
	log  string // on the machine
}

// startDaemon leaves the end of the process to the host's: what is shared
// lives longer than the test that happened to start it.
func (h *Host) startDaemon(role string, env, args []string) (*Daemon, error) {
	h.mu.Lock()
	path := filepath.Join(h.Directory(), fmt.Sprintf("%s-%d.log", role, len(h.logs)+1))
	h.logs = append(h.logs, path)
	h.mu.Unlock()
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := append([]string{"skiff", role}, args...)
	p, err := h.Start(context.Background(), nshost.Cmd{Args: command, Env: h.environment(env), Stdout: log, Stderr: log})
	if err != nil {
		return nil, err
	}
	return &Daemon{Process: p, Host: h, role: role, log: path}, nil
}

// steps tries one step after the other until each succeeds. The error has the
// end of the log.
func (d *Daemon) steps(ctx context.Context, list ...func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, ReadyTimeout)
	defer cancel()
	for _, step := range list {
		if err := poll(ctx, 50*time.Millisecond, func() error {
			select {
			case <-d.Done():
				return permanent{fmt.Errorf("the %s ended", d.role)}
			default:
				return step(ctx)
			}
		}); err != nil {
			return fmt.Errorf("the %s did not become ready: %w\n%s", d.role, err, tail(d.Logs(), 40))
		}
	}
	return nil
}

// Logs is everything that this process has written so far.
func (d *Daemon) Logs() string {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// MustStopCleanly sends SIGTERM, checks that the process ends without an error
// and in time, and gives the time that it took.
func (d *Daemon) MustStopCleanly(t testing.TB) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit, ended := d.end(2 * StopTimeout)
	took := time.Since(begin)
	switch {
	case !ended:
		_ = d.Signal(syscall.SIGQUIT) // the log then says what it was doing
		_, _ = d.end(time.Second)
		d.Kill9(t)
		t.Fatalf("the %s still ran %s after SIGTERM\n%s", d.role, took, tail(d.Logs(), 40))
	case exit.Code != 0:
		t.Errorf("after SIGTERM the %s ended with status %d\n%s", d.role, exit.Code, tail(d.Logs(), 40))
	case took > StopTimeout:
		t.Errorf("the %s took %s to stop, more than %s\n%s", d.role, took, StopTimeout, tail(d.Logs(), 40))
	}
	return took
}

// Kill9 kills the process and waits until it is gone.
func (d *Daemon) Kill9(t testing.TB) {
	t.Helper()
	if err := d.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, ended := d.end(StopTimeout); !ended {
		t.Fatalf("the %s survives SIGKILL", d.role)
	}
}

// MustFail waits until the process has ended by itself and gives its status.
func (d *Daemon) MustFail(t testing.TB, within time.Duration) int {
	t.Helper()
	exit, ended := d.end(within)
	if !ended {
		d.Kill9(t)
		t.Fatalf("the %s did not end within %s\n%s", d.role, within, tail(d.Logs(), 40))
	}
	if exit.Code == 0 {
		t.Errorf("the %s ended with status 0\n%s", d.role, tail(d.Logs(), 40))
	}
	return exit.Code
}

// end waits for the end of the process, at most limit.
func (d *Daemon) end(limit time.Duration) (nshost.Exit, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.Done():
		exit, _ := d.Wait()
		return exit, true
	case <-timer.C:
		return nshost.Exit{}, false
	}
}
