package framework

import (
	"context"
	"net"
	"testing"
	"time"
)

// Server is a running `skiff server`.
type Server struct{ *Daemon }

// StartServer runs `skiff server` with these arguments and does not wait.
func (h *Host) StartServer(t testing.TB, args ...string) *Server {
	t.Helper()
	return h.StartServerWith(t, nil, args...)
}

// StartServerWith is StartServer with more variables in the environment.
func (h *Host) StartServerWith(t testing.TB, env []string, args ...string) *Server {
	t.Helper()
	s, err := h.startServer(env, args)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *Host) startServer(env, args []string) (*Server, error) {
	d, err := h.startDaemon("server", env, args)
	if err != nil {
		return nil, err
	}
	return &Server{d}, nil
}

// StartShared starts a server on a shared host and waits for it.
func (h *Host) StartShared(ctx context.Context, args ...string) (*Server, error) {
	s, err := h.startServer(nil, args)
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// AwaitReady waits until the node of the server is Ready.
func (s *Server) AwaitReady(t testing.TB) {
	t.Helper()
	if err := s.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) ready(ctx context.Context) error {
	node := "node/" + s.Host.Hostname()
	return s.steps(ctx,
		s.answers,
		func(ctx context.Context) error { return s.kubectl(ctx, "wait", "--for=create", "--timeout=30s", node) },
		func(ctx context.Context) error {
			return s.kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", node)
		},
		// Pods are refused until the controllers have made this.
		func(ctx context.Context) error {
			return s.kubectl(ctx, "wait", "--for=create", "--timeout=30s", "serviceaccount/default")
		},
	)
}

// AwaitAPI waits until the API of a server serves and its controllers work,
// which is all that one without a node part has to wait for.
func (s *Server) AwaitAPI(t testing.TB) {
	t.Helper()
	if err := s.steps(t.Context(),
		s.answers,
		func(ctx context.Context) error {
			return s.kubectl(ctx, "wait", "--for=create", "--timeout=30s", "serviceaccount/default")
		},
		func(ctx context.Context) error {
			_, err := s.Host.Try(ctx, nil, "skiff", "status") // 0: all components are ready
			return err
		},
	); err != nil {
		t.Fatal(err)
	}
}

// answers says whether somebody accepts connections at the API's port.
func (s *Server) answers(context.Context) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(s.Host.Address().String(), "6443"), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func (s *Server) kubectl(ctx context.Context, args ...string) error {
	_, err := s.Host.TryKubectl(ctx, args...)
	return err
}
