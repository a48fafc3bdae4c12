// Package server wires a server: control plane, datastore and, unless switched
// off, the node part of pkg/agent. Only main and commands import it.
package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/daemon"
	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
)

// apiComponent serves the API.
const apiComponent = "apiserver"

// Run runs a server until ctx ends or something fails. It returns nil after a
// clean stop; containers go on running.
func Run(ctx context.Context, cfg config.Server, proc daemon.Process) error {
	return daemon.Run(ctx, daemon.Role{
		Name:         "server",
		Layout:       cfg.Layout,
		Logging:      cfg.Logging,
		Memory:       cfg.Profile,
		ControlPlane: true,
		Prepare:      func(ctx context.Context, logs *logging.Logs) (daemon.Plan, error) { return plan(ctx, cfg, logs) },
	}, proc)
}

func plan(ctx context.Context, cfg config.Server, logs *logging.Logs) (_ daemon.Plan, err error) {
	if cfg.Node, err = agent.Identify(cfg.Node, cfg.Layout); err != nil {
		return daemon.Plan{}, err
	}
	if err := unfinished(cfg.Layout); err != nil {
		return daemon.Plan{}, err
	}
	// The API server closes the listener; under one that does not stop in time
	// it must stay open, since upstream panics when it is closed by others.
	p, err := prepare(ctx, cfg, logs)
	if err != nil {
		return daemon.Plan{}, err
	}
	api := inproc.New()
	live, err := liveness(api.Config(superuser()), p.datastoreKind() != config.DatastoreSQLite)
	if err != nil {
		return daemon.Plan{}, err
	}
	kept, err := p.keeper(api)
	if err != nil {
		return daemon.Plan{}, err
	}
	message := "try: sudo skiff kubectl get nodes"
	if !cfg.DisableAgent {
		message = fmt.Sprintf("node %s takes pods; %s", cfg.Node.Name, message)
	}
	return daemon.Plan{
		Node:          cfg.Node.Name,
		Gates:         cfg.FeatureGates(),
		UserNamespace: p.host.UserNamespace,
		News:          p.news,
		Message:       message,
		Healthy:       live,
		APIComponent:  apiComponent,
		NodeComponent: agent.ReadyComponent,
		Patient:       p.datastoreKind() != config.DatastoreSQLite, // it waits for other machines
		Bursts:        p.bursts,
		Handlers:      map[string]http.Handler{snapshot.Path: kept.Handler()},
		Wire:          func(g *component.Group, status component.Handle) error { return wire(g, status, api, p, kept) },
	}, nil
}

// news tells of the API as soon as it is there.
func (p *parts) news(e component.Event) string {
	if e.Name != apiComponent || e.State != component.StateReady {
		return ""
	}
	return "The API answers on " + apiURL(p.advertised(), p.cfg.Listener.Port)
}

func apiURL(address netip.Addr, port int) string {
	return "https://" + net.JoinHostPort(address.String(), strconv.Itoa(port))
}
