package framework

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nameserver"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// commandTimeout bounds every single command; waiting commands get the bound
// that their caller names.
const commandTimeout = 6 * time.Minute

// Host is a host with the binary under test at /usr/local/bin/skiff and a
// nameserver that is its upstream. It is on a network of its own, or on that of
// its Cluster.
type Host struct {
	*nshost.Host
	Names *nameserver.Server

	suite   *Suite
	network *network // nil when it is the cluster's

	mu     sync.Mutex
	logs   []string // of servers and agents, in the order of their starts
	env    []string // of every command, see SetClock
	faults nshost.Faults
}

// NewHost makes a host that is removed at the end of the test. It sees what is
// bound, as it is whenever its power goes on.
func (s *Suite) NewHost(t testing.TB, binds ...nshost.Bind) *Host {
	t.Helper()
	s.Require(t)
	h, err := s.makeHost(t.Context(), binds...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || keepAlways() {
			h.dump(t.Name(), t.Log)
		}
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// NewSharedHost makes a host that is removed after all tests.
func (s *Suite) NewSharedHost(ctx context.Context) (*Host, error) {
	h, err := s.makeHost(ctx)
	if err != nil {
		return nil, err
	}
	s.share(h)
	return h, nil
}

func (s *Suite) makeHost(ctx context.Context, binds ...nshost.Bind) (*Host, error) {
	n, err := s.makeNetwork(nil)
	if err != nil {
		return nil, err
	}
	h, err := s.makeHostOn(ctx, n, "", binds...)
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	h.network = n
	return h, nil
}

// makeHostOn makes a host on a network. Without a name it is called by its id.
func (s *Suite) makeHostOn(ctx context.Context, n *network, name string, binds ...nshost.Bind) (*Host, error) {
	id := fmt.Sprintf("%sh%d", s.run, s.number())
	host, err := nshost.New(ctx, nshost.Config{
		ID: id, Hostname: name, Base: s.base, Network: n.Network,
		Binds: append([]nshost.Bind{{Source: s.binary, Target: "/usr/local/bin/skiff", ReadOnly: true}}, binds...),
	})
	return &Host{Host: host, Names: n.names, suite: s}, err
}

func (h *Host) close() error {
	err := h.Host.Close()
	if h.network != nil {
		err = errors.Join(err, h.network.close())
	}
	return err
}

// Try runs a command and gives its standard output; the error carries standard
// error and, if that was empty, the output.
func (h *Host) Try(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var stdout bytes.Buffer
	err := h.Run(ctx, nshost.Cmd{Args: args, Env: h.environment(nil), Stdin: stdin, Stdout: &stdout})
	var failed *nshost.ExitError
	if errors.As(err, &failed) && failed.Stderr == "" {
		failed.Stderr = stdout.String()
	}
	return stdout.String(), err
}

// Exec runs a command that must succeed and gives its standard output.
func (h *Host) Exec(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.Try(t.Context(), nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Result is how a command ended that may fail.
type Result struct {
	Code   int
	Stdout string
	Stderr string
}

// Outcome runs a command of which the failure is what is tested.
func (h *Host) Outcome(t testing.TB, c nshost.Cmd) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.Env = h.environment(c.Env)
	p, err := h.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s did not end within %s\n%s", strings.Join(c.Args, " "), commandTimeout, stderr.String())
	}
	return Result{Code: exit.Code, Stdout: stdout.String(), Stderr: stderr.String()}
}

// WriteFile writes a file inside, and the directories that lead to it. The
// file appears whole; until then its name begins with a dot, which those who
// watch directories pass over.
func (h *Host) WriteFile(t testing.TB, path, content string) {
	t.Helper()
	h.Exec(t, "mkdir", "-p", filepath.Dir(path))
	if _, err := h.Try(t.Context(), strings.NewReader(content), "sh", "-c", `n="${0%/*}/.${0##*/}.new" && cat >"$n" && mv "$n" "$0"`, path); err != nil {
		t.Fatal(err)
	}
}

// ReadFile reads a file inside.
func (h *Host) ReadFile(t testing.TB, path string) string {
	t.Helper()
	return h.Exec(t, "cat", path)
}

// CopyIn copies a file of the machine into the host, appearing whole.
func (h *Host) CopyIn(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = h.Try(ctx, f, "sh", "-c", `mkdir -p "${0%/*}" && cat >"$0.part" && mv "$0.part" "$0"`, to)
	return err
}

// ImageDirectory is where a server imports image archives from.
const ImageDirectory = "/var/lib/skiff/agent/images/"

// Preload puts the archives of the test images into ImageDirectory.
func (h *Host) Preload(ctx context.Context) error {
	paths, err := h.suite.images()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := h.CopyIn(ctx, path, ImageDirectory+filepath.Base(path)); err != nil {
			return err
		}
	}
	return nil
}
