package daemon

import (
	"fmt"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/notify"
	"github.com/skiff-k8s/skiff/pkg/status"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// supervise adds what tells the outside how the rest is doing: the status
// socket, and the service manager's notifications.
func supervise(g *component.Group, role Role, plan Plan, proc Process, logs *logging.Logs) component.Handle {
	info := status.Info{
		Version:       version.Version,
		Kubernetes:    version.Kubernetes,
		Role:          role.Name,
		NodeName:      plan.Node,
		Started:       proc.Start,
		APIComponent:  plan.APIComponent,
		NodeComponent: plan.NodeComponent,
	}
	socket := g.Add(status.New(role.Layout.StatusSocket(), func() status.Report { return status.Collect(info, g) }, plan.Handlers))
	source := notify.Source{
		Ready:   g.Ready(),
		Status:  func() string { return summary(g) },
		Healthy: plan.Healthy,
	}
	g.Add(notify.New(proc.Notify, source, logs.For("notify")))
	return socket
}

// summary is one line for `systemctl status`.
func summary(g *component.Group) string {
	ready, all := 0, g.Snapshot()
	for _, s := range all {
		if s.State == component.StateReady {
			ready++
		}
	}
	return fmt.Sprintf("%d of %d components are ready", ready, len(all))
}
