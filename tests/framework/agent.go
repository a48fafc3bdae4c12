package framework

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

// tokenFile is where a server keeps the token with which agents join.
const tokenFile = "/var/lib/skiff/server/token"

// Agent is a running `skiff agent`.
type Agent struct {
	*Daemon
	Server *Server // that it has been told to join
}

// URL is the address at which other hosts reach the server.
func (s *Server) URL() string {
	return "https://" + net.JoinHostPort(s.Host.Address().String(), "6443")
}

// Token is what agents join with. It waits until the server has made it.
func (s *Server) Token(t testing.TB) string {
	t.Helper()
	token, err := s.token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (s *Server) token(ctx context.Context) (string, error) {
	var token string
	err := s.steps(ctx, func(ctx context.Context) error {
		out, err := s.Host.Try(ctx, nil, "cat", tokenFile)
		token = strings.TrimSpace(out)
		return err
	})
	return token, err
}

// StartAgent runs `skiff agent` on the host, to join a server on another one
// with that server's token, and does not wait.
func (h *Host) StartAgent(t testing.TB, server *Server, args ...string) *Agent {
	t.Helper()
	a, err := h.startAgent(t.Context(), server, args)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// StartSharedAgent starts an agent on a shared host and waits for it.
func (h *Host) StartSharedAgent(ctx context.Context, server *Server, args ...string) (*Agent, error) {
	a, err := h.startAgent(ctx, server, args)
	if err != nil {
		return nil, err
	}
	return a, a.ready(ctx)
}

// StartAgentAs runs `skiff agent` with just these arguments and variables: for
// tests of what it refuses, and of other ways to name a server.
func (h *Host) StartAgentAs(t testing.TB, server *Server, env []string, args ...string) *Agent {
	t.Helper()
	d, err := h.startDaemon("agent", env, args)
	if err != nil {
		t.Fatal(err)
	}
	return &Agent{Daemon: d, Server: server}
}

func (h *Host) startAgent(ctx context.Context, server *Server, args []string) (*Agent, error) {
	token, err := server.token(ctx)
	if err != nil {
		return nil, err
	}
	d, err := h.startDaemon("agent", nil, append([]string{"--server", server.URL(), "--token", token}, args...))
	if err != nil {
		return nil, err
	}
	return &Agent{Daemon: d, Server: server}, nil
}

// AwaitReady waits until the agent's node is Ready.
func (a *Agent) AwaitReady(t testing.TB) {
	t.Helper()
	if err := a.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (a *Agent) ready(ctx context.Context) error {
	node := "node/" + a.Host.Hostname()
	wait := func(condition string) func(context.Context) error {
		return func(ctx context.Context) error {
			if _, err := a.Server.Host.TryKubectl(ctx, "wait", "--for="+condition, "--timeout=5s", node); err != nil {
				return fmt.Errorf("%w\nthe end of the server's log:\n%s", err, tail(a.Server.Logs(), 10))
			}
			return nil
		}
	}
	return a.steps(ctx, wait("create"), wait("condition=Ready"))
}
