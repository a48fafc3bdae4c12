package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// Where things are inside the host of a stock Kubernetes.
const (
	stockData     = "/var/lib/stock"
	stockEtc      = "/etc/kubernetes"
	stockPrograms = "/usr/local/bin/"
	runtimeSocket = "/run/containerd/containerd.sock"
)

// stock is upstream's Kubernetes as kubeadm lays it out: the same versions,
// each component a process of its own, etcd, TLS between all of them.
type stock struct {
	host     *framework.Host
	programs map[string]string // name to file on the machine
	images   []string          // archives inside
	admin    *rest.Config
	args     []string // further ones for the API server, "--name=value"

	mu       sync.Mutex // guards running
	running  map[string]*nshost.Process
	stopping atomic.Bool
	failed   chan struct{}
	once     *sync.Once
	leave    context.CancelFunc // ends what Start has begun
}

// newStock makes the host and everything that kubeadm would make before the
// components start: certificates, kubeconfigs, settings, images.
func newStock(ctx context.Context, suite *framework.Suite, o options, archives []string) (*stock, error) {
	h, err := suite.NewSharedHost(ctx)
	if err != nil {
		return nil, err
	}
	s := &stock{host: h, programs: map[string]string{}, leave: func() {}}
	if err := s.install(ctx, o, archives); err != nil {
		return nil, errors.Join(stated(s, err), h.Close())
	}
	return s, nil
}

func (s *stock) install(ctx context.Context, o options, archives []string) error {
	for _, name := range stockNames() {
		s.programs[name] = filepath.Join(o.parts, "stock", name)
	}
	for _, name := range []string{"runc", "containerd-shim-runc-v2", "cni"} {
		s.programs[name] = filepath.Join(o.payload, name)
	}
	for name, path := range s.programs {
		if err := s.host.CopyIn(ctx, path, stockPrograms+name); err != nil {
			return err
		}
	}
	for _, path := range archives {
		inside := "/var/lib/images/" + filepath.Base(path)
		if err := s.host.CopyIn(ctx, path, inside); err != nil {
			return err
		}
		s.images = append(s.images, inside)
	}
	script := `chmod 0755 ` + stockPrograms + `* 2>/dev/null; mkdir -p /opt/cni/bin /etc/cni/net.d /etc/containerd ` + stockEtc + ` /var/lib/etcd && chmod 0700 /var/lib/etcd
for p in bridge host-local loopback portmap; do ln -sf ` + stockPrograms + `cni /opt/cni/bin/$p; done; for p in ` + strings.Join(stockNames(), " ") + ` runc containerd-shim-runc-v2 cni; do test -x ` + stockPrograms + `$p || exit 1; done`
	if _, err := s.host.Try(ctx, nil, "sh", "-c", script); err != nil {
		return err
	}
	if err := s.writeCredentials(); err != nil {
		return fmt.Errorf("making the certificates: %w", err)
	}
	for path, content := range s.settings() {
		if err := os.WriteFile(s.host.Path(path), []byte(content), 0o600); err != nil {
			return err
		}
	}
	var err error
	if s.admin, err = clientcmd.BuildConfigFromFlags("", s.host.Path(stockEtc+"/admin.conf")); err != nil {
		return err
	}
	return s.importImages(ctx)
}

// importImages runs containerd alone, for images are on a machine before its
// cluster is.
func (s *stock) importImages(ctx context.Context) error {
	s.reset()
	if err := s.run(s.containerd()); err != nil {
		return err
	}
	if err := until(ctx, s, "containerd listens", s.listens("unix", s.host.Path(runtimeSocket))); err != nil {
		return err
	}
	for _, image := range s.images {
		args := []string{"skiff", "ctr", "--address", runtimeSocket, "-n", "k8s.io", "images", "import", "--local", "--digests=false", image}
		if _, err := s.host.Try(ctx, nil, args...); err != nil {
			return err
		}
	}
	return s.Stop(ctx)
}

func (s *stock) Name() string { return "stock" }

func (s *stock) Host() *framework.Host { return s.host }

func (s *stock) Failed() <-chan struct{} { return s.failed }

func (s *stock) Close() error {
	s.stopping.Store(true)
	s.leave()
	return s.host.Close()
}

func (s *stock) Installed() map[string]string { return s.programs }

func (s *stock) Config(context.Context) (*rest.Config, error) { return rest.CopyConfig(s.admin), nil }

func (s *stock) Logs() string {
	var all strings.Builder
	for _, name := range stockNames() {
		fmt.Fprintf(&all, "== %s\n%s\n", name, tail(s.log(name)))
	}
	return all.String()
}

func (s *stock) log(name string) string { return filepath.Join(s.host.Directory(), name+".log") }

func (s *stock) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping.Store(false)
	s.running, s.failed, s.once = map[string]*nshost.Process{}, make(chan struct{}), new(sync.Once)
	s.leave = func() {}
}

// Start starts each component at the earliest moment at which it need not try
// twice: etcd and containerd at once, the kubelet and the API server when these
// listen, the API server's clients when it is ready. It returns at once.
func (s *stock) Start(ctx context.Context) error {
	s.reset()
	if err := errors.Join(s.run(s.etcd()), s.run(s.containerd())); err != nil {
		return err
	}
	// Whoever has started it may be content before all of them are up.
	ctx, s.leave = context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	go func() {
		if err := s.follow(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			s.fail(err)
		}
	}()
	return nil
}

func (s *stock) follow(ctx context.Context) error {
	address := s.host.Address().String()
	if err := until(ctx, s, "etcd listens", s.listens("tcp", net.JoinHostPort(address, "2379"))); err != nil {
		return err
	}
	if err := s.run(append(s.apiserver(), s.args...)); err != nil {
		return err
	}
	if err := until(ctx, s, "containerd listens", s.listens("unix", s.host.Path(runtimeSocket))); err != nil {
		return err
	}
	if err := s.run(s.kubelet()); err != nil {
		return err
	}
	if err := apiReady(ctx, s, s.admin); err != nil {
		return err
	}
	return errors.Join(s.run(s.controllerManager()), s.run(s.scheduler()), s.run(s.proxy()))
}

func (s *stock) listens(network, address string) func() error {
	return func() error {
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func (s *stock) fail(err error) {
	if s.stopping.Load() {
		return
	}
	s.once.Do(func() {
		fmt.Fprintln(os.Stderr, "stock:", err)
		close(s.failed)
	})
}

// run starts a component. Like skiff's, the process outlives any ctx.
func (s *stock) run(args []string) error {
	name := filepath.Base(args[0])
	log, err := os.OpenFile(s.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := s.host.Start(context.Background(), nshost.Cmd{Args: args, Stdout: log, Stderr: log})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.running[name] = p
	s.mu.Unlock()
	go func() {
		<-p.Done()
		s.mu.Lock()
		current := s.running[name] == p && !s.stopping.Load() // not one of the run before
		s.mu.Unlock()
		if current {
			s.fail(fmt.Errorf("%s: %w", name, errEnded))
		}
	}()
	return nil
}

// Stop ends the components in the reverse order of their start: an API server
// whose etcd is gone does not end for a minute.
func (s *stock) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	first := []string{"kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"}
	for _, names := range [][]string{first, {"kube-apiserver"}, {"etcd", "containerd"}} {
		if err := s.end(ctx, names); err != nil {
			return err
		}
	}
	return nil
}

// end sends SIGTERM to components at once and waits for them.
func (s *stock) end(ctx context.Context, names []string) error {
	for _, name := range names {
		if p := s.running[name]; p != nil {
			if err := p.Signal(syscall.SIGTERM); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		p := s.running[name]
		if p == nil {
			continue
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of %s: %w", name, ctx.Err())
		}
	}
	return nil
}
