package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/daemon"
	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/hostaddr"
	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/kube/globals"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// member is what an agent's components are made from: everything that can fail
// before anything runs has been done.
type member struct {
	cfg     config.Agent
	token   token.Token
	toward  []netip.Addr // the server's, to choose the node's by
	cluster protocol.ClusterConfig
	node    Node // without Clients
}

// Run runs an agent until ctx ends or something fails. It returns nil after a
// clean stop; containers go on running.
func Run(ctx context.Context, cfg config.Agent, proc daemon.Process) error {
	return daemon.Run(ctx, daemon.Role{
		Name:    "agent",
		Layout:  cfg.Layout,
		Logging: cfg.Logging,
		Memory:  cfg.Profile,
		Prepare: func(ctx context.Context, logs *logging.Logs) (daemon.Plan, error) { return plan(ctx, cfg, logs) },
	}, proc)
}

func plan(ctx context.Context, cfg config.Agent, logs *logging.Logs) (_ daemon.Plan, err error) {
	if cfg.Node, err = Identify(cfg.Node, cfg.Layout); err != nil {
		return daemon.Plan{}, err
	}
	m, err := prepare(ctx, cfg, logs)
	if err != nil {
		return daemon.Plan{}, err
	}
	return daemon.Plan{
		Node:          cfg.Node.Name,
		Gates:         cfg.FeatureGates(),
		UserNamespace: m.node.Host.UserNamespace,
		News:          m.news,
		Message:       fmt.Sprintf("node %s takes pods", cfg.Node.Name),
		Healthy:       func(context.Context) error { return nil }, // what fails ends the process
		APIComponent:  apiComponent,
		NodeComponent: ReadyComponent,
		Patient:       true,
		Wire:          m.wire,
	}, nil
}

// news tells when the servers are there.
func (m *member) news(e component.Event) string {
	if e.Name != apiComponent || e.State != component.StateReady {
		return ""
	}
	return "The API of the cluster answers"
}

// prepare finds out about the cluster, looks at the host and unpacks helper
// programs; the last goes on beside the others.
func prepare(ctx context.Context, cfg config.Agent, logs *logging.Logs) (*member, error) {
	m := &member{cfg: cfg, node: Node{Config: cfg.Node, Layout: cfg.Layout, Logs: logs, Pprof: cfg.EnablePprof}}
	m.node.Config.Kubelet.Extra = globals.WithoutFeatureGates(cfg.Node.Kubelet.Extra)
	m.node.Config.Proxy.Extra = globals.WithoutFeatureGates(cfg.Node.Proxy.Extra)
	var err error
	if m.token, err = token.Read(cfg.Join.Token.Reveal(), cfg.Join.TokenFile); err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	m.toward = resolve(ctx, cfg.Join.Server)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		m.node.Helpers, err = embedded.Find(ctx, cfg.Layout)
		return err
	})
	work.Go(func() error { return m.enter(ctx) })
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return m, nil
}

// enter makes the machine a node of the cluster. One that has been there before
// starts with what it knows, so that its pods do not wait for a server.
func (m *member) enter(ctx context.Context) error {
	known, err := join.Load(m.cfg.Layout, m.cfg.Node.Name, time.Now())
	if err == nil {
		m.cluster = known
		return m.inspect(ctx)
	}
	log := m.node.Logs.For("join")
	if !errors.Is(err, fs.ErrNotExist) {
		log.WithError(err).Warn("Joining the cluster anew")
	}
	found, err := hostaddr.Await(ctx, hostaddr.Config{NodeIPs: m.cfg.Node.IPs, Toward: m.toward}, m.waiting)
	if err != nil {
		return fmt.Errorf("choosing the node's address: %w", err)
	}
	if m.cluster, err = join.Join(ctx, m.joining(found), log); err != nil {
		return err
	}
	return m.inspect(ctx)
}

func (m *member) waiting(err error) { m.node.Logs.For("host").Warn("Waiting for the network: ", err) }

// inspect looks at the host with the cluster's needs in mind.
func (m *member) inspect(ctx context.Context) (err error) {
	c := m.cluster
	m.node.Network = m.network()
	m.node.DisableProxy, m.node.DisableDNS, m.node.DisableCloudController = c.DisableKubeProxy, c.DisableDNS, c.DisableCloudController
	m.node.Files = pki.NodeFilesOf(m.cfg.Layout)
	m.node.Host, err = Inspect(ctx, Look{
		Layout:       m.cfg.Layout,
		Node:         m.cfg.Node,
		Network:      m.node.Network,
		DisableProxy: c.DisableKubeProxy,
		Toward:       m.toward,
	}, m.node.Logs.For("host"))
	return err
}

// resolveTimeout bounds the look-up of a server's name: a device that starts
// without a network goes on with what it knows.
const resolveTimeout = 5 * time.Second

// resolve finds the addresses of the server, to choose the node's by.
func resolve(ctx context.Context, server string) []netip.Addr {
	u, err := url.Parse(server)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil // joining says what is wrong with the name
	}
	return addrs
}
