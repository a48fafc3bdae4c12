package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// skiff is `skiff server` on its default settings, unless args say otherwise.
type skiff struct {
	name   string
	host   *framework.Host
	binary string
	always []string // arguments of each start
	args   []string
	server *nshost.Process
	log    string
	failed chan struct{}
}

// The systems that are Skiff, by their datastore.
const (
	onSQLite = "skiff"
	onEtcd   = "skiff-etcd"
)

func isSkiff(s system) bool { return s.Name() == onSQLite || s.Name() == onEtcd }

// newSkiff makes the host and puts the image where the server imports it at
// its start: that import is part of what is measured.
func newSkiff(ctx context.Context, suite *framework.Suite, archives []string, always ...string) (*skiff, error) {
	h, err := suite.NewSharedHost(ctx)
	if err != nil {
		return nil, err
	}
	s := &skiff{name: onSQLite, host: h, always: always, binary: suite.Binary(), log: filepath.Join(h.Directory(), "skiff.log")}
	for _, path := range archives {
		if err := h.CopyIn(ctx, path, framework.ImageDirectory+filepath.Base(path)); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return s, nil
}

// newSkiffOnEtcd is a server that others could join.
func newSkiffOnEtcd(ctx context.Context, suite *framework.Suite, archives []string) (*skiff, error) {
	s, err := newSkiff(ctx, suite, archives, "--cluster-init")
	if err == nil {
		s.name = onEtcd
	}
	return s, err
}

func (s *skiff) Name() string { return s.name }

func (s *skiff) Host() *framework.Host { return s.host }

func (s *skiff) Failed() <-chan struct{} { return s.failed }

func (s *skiff) Logs() string { return tail(s.log) }

func (s *skiff) Close() error { return s.host.Close() }

func (s *skiff) Installed() map[string]string { return map[string]string{"skiff": s.binary} }

func (s *skiff) Start(context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// The process outlives ctx: it ends with Stop or with its host.
	p, err := s.host.Start(context.Background(), nshost.Cmd{
		Args: slices.Concat([]string{"skiff", "server"}, s.always, s.args), Stdout: log, Stderr: log,
	})
	if err != nil {
		return err
	}
	s.server, s.failed = p, make(chan struct{})
	go func(failed chan struct{}) {
		<-p.Done()
		close(failed)
	}(s.failed)
	return nil
}

func (s *skiff) Stop(ctx context.Context) error {
	if err := s.server.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.server.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of skiff: %w", ctx.Err())
	}
}

func (s *skiff) Config(ctx context.Context) (*rest.Config, error) {
	path := s.host.Path("/etc/skiff/kubeconfig.yaml")
	var data []byte
	err := until(ctx, s, "there is a kubeconfig", func() (err error) {
		data, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, err
	}
	c.Host = "https://" + net.JoinHostPort(s.host.Address().String(), "6443")
	return c, nil
}

func (s *skiff) ServeWith(args ...string) {
	s.args = nil
	for _, arg := range args {
		s.args = append(s.args, "--kube-apiserver-arg="+arg)
	}
}

// Metrics has the datastore's among the API server's.
func (s *skiff) Metrics(ctx context.Context) (string, error) {
	config, err := s.Config(ctx)
	if err != nil {
		return "", err
	}
	return apiMetrics(ctx, config)
}

// tail is the end of a log file.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(data, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
}
