// Package containerd runs containerd inside the process: image store,
// snapshots and the CRI that the kubelet talks to. Containers live in shim
// processes of their own and outlast a stop, a crash and an update of Skiff.
// The wiring packages import it; other components get its client by
// constructor.
//
// containerd keeps process-wide state (its plugin registry and its logger), so
// that a process runs one Component at a time.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Config is what Skiff decides about containerd. The administrator's drop-ins
// in Layout.ContainerdDropIns win over it.
type Config struct {
	Layout layout.Layout

	// RuncPath and ShimPath are absolute paths of runc and of
	// containerd-shim-runc-v2. Links to them are made in Layout.Helpers, which
	// has to be in PATH before any other directory with a shim.
	RuncPath string
	ShimPath string
	// CNIBinDirs is searched in order for CNI plugins.
	CNIBinDirs []string

	// PauseImage is the full name of the image that holds a pod's namespaces.
	PauseImage string
	// Snapshotter is "overlayfs" or "native".
	Snapshotter string
	// DefaultRuntime is the runtime of pods without a RuntimeClass. Another one
	// than "runc" has to be defined in a drop-in.
	DefaultRuntime string

	// SystemdCgroup lets systemd make the cgroups of containers. It has to be
	// what the kubelet does.
	SystemdCgroup bool
	// ShimCgroup is the cgroup that shims move to; empty: they stay in
	// Skiff's, and the service manager must not kill the rest of that.
	ShimCgroup string
	// RestrictOOMScoreAdj is for hosts without CAP_SYS_RESOURCE, where a
	// container whose oom_score_adj is below Skiff's would not start.
	RestrictOOMScoreAdj bool
	// NonrootDevices gives devices in a container to the container's user.
	NonrootDevices bool
	// SELinux labels containers.
	SELinux bool

	// Log gets what containerd itself says; nil: the component's log does.
	Log *logrus.Entry
}

func (c Config) withDefaults() Config {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.DefaultRuntime == "" {
		c.DefaultRuntime = "runc"
	}
	return c
}

// Component is containerd. Its methods may be called from any goroutine.
type Component struct {
	cfg Config
	log *logrus.Entry

	ready    chan struct{} // closed when services is set
	services *Services
}

var _ component.Component = (*Component)(nil)

// New returns the component "containerd".
func New(cfg Config, log *logrus.Entry) *Component {
	if cfg.Log == nil {
		cfg.Log = log
	}
	return &Component{cfg: cfg.withDefaults(), log: log, ready: make(chan struct{})}
}

// Name implements component.Component.
func (c *Component) Name() string { return "containerd" }

// Services waits until containerd works and returns access to it.
func (c *Component) Services(ctx context.Context) (Services, error) {
	select {
	case <-c.ready:
		return *c.services, nil
	case <-ctx.Done():
		return Services{}, fmt.Errorf("wait for containerd: %w", context.Cause(ctx))
	}
}

// Run implements component.Component. It is ready when the CRI has found the
// containers of earlier runs and serves.
func (c *Component) Run(ctx context.Context, ready func()) error {
	b := newBridge(c.cfg.Log)
	// containerd's CRI logs to this variable instead of its context.
	log.L = b.entry()
	// The server's context outlives ctx: what is still being served is ended
	// by stop, not by cancelled contexts in the middle of it.
	serverCtx, cancel := context.WithCancel(log.WithLogger(context.WithoutCancel(ctx), log.L))
	defer cancel()

	running, err := c.start(ctx, serverCtx, b)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return running.stop()
	case err = <-b.fatal:
		return errors.Join(fmt.Errorf("containerd failed: %w", err), running.stop())
	case <-running.recovered:
	}
	c.services = running.services
	close(c.ready)
	ready()

	select {
	case <-ctx.Done():
		return running.stop()
	case err = <-b.fatal:
		return errors.Join(fmt.Errorf("containerd failed: %w", err), running.stop())
	}
}

// instance is a started containerd.
type instance struct {
	server    *server.Server
	services  *Services
	recovered chan struct{} // closed when the CRI serves
}

// start initialises the plugins and opens the sockets. It runs beside its
// caller, because a fatal message of containerd ends the goroutine it is on.
func (c *Component) start(ctx, serverCtx context.Context, b *bridge) (*instance, error) {
	type result struct {
		*instance
		err error
	}
	results := make(chan result, 1)
	go func() {
		inst, err := c.initialise(serverCtx)
		results <- result{inst, err}
	}()
	select {
	case r := <-results:
		return r.instance, r.err
	case err := <-b.fatal:
		return nil, fmt.Errorf("containerd failed to start: %w", err)
	case <-ctx.Done():
		// Nothing but a database held by someone else takes long here, and
		// that wait is bounded: let it end, so that nothing stays behind.
		if r := <-results; r.err == nil {
			return r.instance, nil
		}
		return nil, context.Cause(ctx)
	}
}

func (c *Component) initialise(ctx context.Context) (*instance, error) {
	if err := linkHelpers(&c.cfg); err != nil {
		return nil, err
	}
	cfg, err := c.configuration(ctx)
	if err != nil {
		return nil, err
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return nil, fmt.Errorf("create containerd's directories: %w", err)
	}
	if err := checkDatabases(cfg.Root); err != nil {
		return nil, err
	}
	if err := cleanTemporaryMounts(ctx, cfg.Root); err != nil {
		return nil, err
	}
	var passed handover
	verbosity := saveKlog()
	srv, err := server.New(context.WithValue(ctx, handoverKey{}, &passed), cfg)
	verbosity.restore()
	if err != nil {
		return nil, explain(err, c.cfg)
	}
	inst := &instance{server: srv, services: passed.services, recovered: make(chan struct{})}
	if err := srv.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("serve containerd's sockets: %w", err), inst.stop())
	}
	if err := onlyRoot(c.cfg.Layout.ContainerdSocket()); err != nil {
		return nil, errors.Join(err, inst.stop())
	}
	go func() {
		srv.Wait()
		close(inst.recovered)
	}()
	return inst, nil
}

// onlyRoot takes the sockets from the group root, to which containerd gives them
// as well: who may use them can become root.
func onlyRoot(socket string) error {
	for _, path := range []string{socket, ttrpcSocket(socket)} {
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("restrict containerd's socket: %w", err)
		}
	}
	return nil
}

// configuration writes the file and reads it back together with the
// administrator's drop-ins.
func (c *Component) configuration(ctx context.Context) (*srvconfig.Config, error) {
	dropIns := c.cfg.Layout.ContainerdDropIns()
	platform := platforms.Format(platforms.DefaultSpec())
	data, err := newSettings(c.cfg, platform).render(dropIns)
	if err != nil {
		return nil, err
	}
	path := c.cfg.Layout.AgentEtc("containerd", "config.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of containerd's configuration: %w", err)
	}
	if _, err := atomicfile.WriteIfChanged(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	loaded := &srvconfig.Config{
		ProxyPlugins:     map[string]srvconfig.ProxyPlugin{},
		StreamProcessors: map[string]srvconfig.StreamProcessor{},
		Timeouts:         map[string]string{},
	}
	registered := registry.Graph(func(*plugin.Registration) bool { return false })
	all := func() iter.Seq[plugin.Registration] { return slices.Values(registered) }
	if err := srvconfig.LoadConfigWithPlugins(ctx, path, all, loaded); err != nil {
		return nil, fmt.Errorf("read containerd's configuration %s and the drop-ins in %s (correct or remove the file at fault): %w",
			path, dropIns, err)
	}
	return loaded, nil
}

func cleanTemporaryMounts(ctx context.Context, root string) error {
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return fmt.Errorf("choose containerd's place for temporary mounts: %w", err)
	}
	warnings, err := mount.CleanupTempMounts(0)
	if err != nil {
		warnings = append(warnings, err)
	}
	for _, w := range warnings {
		log.G(ctx).WithError(w).Warn("cannot unmount what an earlier run left behind")
	}
	return nil
}

// stopBound is how long the server may take to close. It has nothing to wait
// for but handlers of requests under way.
const stopBound = 2 * time.Second

// stop closes sockets and databases and leaves containers alone.
func (i *instance) stop() error {
	done := make(chan error, 1)
	go func() {
		i.server.Stop()
		if i.services != nil && i.services.metadata != nil {
			done <- i.services.metadata.Close()
			return
		}
		done <- nil
	}()
	bound := time.NewTimer(stopBound)
	defer bound.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("close containerd's metadata: %w", err)
		}
		return nil
	case <-bound.C:
		return fmt.Errorf("containerd did not stop within %s; its containers are not affected", stopBound)
	}
}
