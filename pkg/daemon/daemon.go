// Package daemon is what every long-running command does around its
// components: logs, directories, the lock of the data directory, the state of
// Kubernetes' libraries, `skiff status`, the service manager, and the few lines
// that tell people how far it is. Only pkg/server and pkg/agent import it, with
// a Role that says the rest.
package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/activity"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/internal/lockfile"
	"github.com/skiff-k8s/skiff/pkg/kube/globals"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/memory"
	"github.com/skiff-k8s/skiff/pkg/notify"
	"github.com/skiff-k8s/skiff/pkg/processors"
)

// Process is what main knows of the process.
type Process struct {
	Stderr io.Writer
	// Notify is what the service manager asked for.
	Notify notify.Config
	// Start is when the process started; readiness is counted from it.
	Start time.Time
}

// Role is what a command runs.
type Role struct {
	// Name is the command's: "server", "agent".
	Name    string
	Layout  layout.Layout
	Logging config.Logging
	// Memory is the profile by which memory is traded for processor time.
	Memory string
	// ControlPlane says that there are files of a control plane.
	ControlPlane bool
	// Prepare does everything that can fail before anything runs, while the
	// data directory is this process' own.
	Prepare func(ctx context.Context, logs *logging.Logs) (Plan, error)
}

// Plan is what there is to run.
type Plan struct {
	// Node is the name of the node, "" without a node part.
	Node string
	// Gates are the feature gates; UserNamespace says that the host's root is
	// not the machine's.
	Gates         map[string]bool
	UserNamespace bool
	// News gives a line for people about an event that is worth one, else "".
	News func(component.Event) string
	// Message is told once everything is ready.
	Message string
	// Healthy is what the service manager's watchdog asks.
	Healthy func(context.Context) error
	// APIComponent and NodeComponent are those whose readiness `skiff status`
	// gives as the time to a working API and to a node that takes pods.
	APIComponent, NodeComponent string
	// Bursts ends what is saved at rest; nil where no requests come.
	Bursts *activity.Bursts
	// Handlers answer on the socket of `skiff status`, by their paths.
	Handlers map[string]http.Handler
	// Patient says that components may wait for others than this machine, so
	// that no time is too long for them to become ready.
	Patient bool
	// Wire fills the group; status is ready when `skiff status` is answered.
	Wire func(g *component.Group, status component.Handle) error
}

// inUserNamespace is the kubelet's feature gate for hosts whose root is not the
// machine's, such as unprivileged containers.
const inUserNamespace = "KubeletInUserNamespace"

// Run runs a role until ctx ends or something fails. It returns nil after a
// clean stop; containers go on running.
func Run(ctx context.Context, role Role, proc Process) error {
	logs, err := logging.New(role.Logging, proc.Stderr)
	if err != nil {
		return err
	}
	defer logs.Close()
	logs.Install()
	collector := memory.Begin(role.Memory, memory.Process{Lookup: os.LookupEnv, Root: "/"}, logs.For("memory"))
	if err := makeDirectories(directoriesOf(role.Layout, role.ControlPlane)); err != nil {
		return err
	}
	lock, err := lockfile.Acquire(role.Layout.Lock())
	if err != nil {
		return err
	}
	defer lock.Release()
	plan, err := role.Prepare(ctx, logs)
	if err != nil {
		return err
	}
	if err := applyGlobals(role, plan, logs); err != nil {
		return err
	}
	a := &announcer{log: logs.For("skiff"), start: proc.Start, news: plan.News, message: plan.Message}
	globals.OutliveExits(a.stopping.Load)
	var options []component.Option
	if plan.Patient {
		options = append(options, component.WithoutReadyTimeout())
	}
	group := component.NewGroup(a.observe(logs.Events(logs.For("skiff"))), proc.Start, options...)
	group.Add(memory.New(group.Ready(), plan.Bursts.Subscribe(), collector, logs.For("memory")))
	group.Add(processors.New(group.Ready(), plan.Bursts.Subscribe(), os.LookupEnv, logs.For("processors")))
	if err := plan.Wire(group, supervise(group, role, plan, proc, logs)); err != nil {
		return err
	}
	return a.run(ctx, group, logs)
}

// applyGlobals comes before anything of Kubernetes is built.
func applyGlobals(role Role, plan Plan, logs *logging.Logs) error {
	gates := plan.Gates
	if _, told := gates[inUserNamespace]; !told && plan.UserNamespace {
		// Without it the kubelet ends over sysctls that such a host may not set.
		gates[inUserNamespace] = true
	}
	err := globals.Apply(globals.Settings{
		Verbosity:    role.Logging.Verbosity,
		VModule:      role.Logging.VModule,
		Sink:         logs.KlogSink(),
		FeatureGates: gates,
	})
	if err != nil {
		return fmt.Errorf("preparing Kubernetes' libraries: %w", err)
	}
	return nil
}
