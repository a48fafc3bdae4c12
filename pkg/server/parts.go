package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-k8s/skiff/pkg/activity"
	"github.com/skiff-k8s/skiff/pkg/agent"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/keyring"
	"github.com/skiff-k8s/skiff/pkg/kube/apiserver"
	"github.com/skiff-k8s/skiff/pkg/logging"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// parts is what the components are made from: everything that can fail before
// anything runs has been done.
type parts struct {
	cfg      config.Server
	logs     *logging.Logs
	listener net.Listener
	host     agent.Host
	helpers  embedded.Dir
	pki      pki.Config
	certs    *pki.Certificates
	files    pki.ServerFiles
	tokens   *token.Store
	// initialCluster are the members of the etcd cluster that this server
	// joins with this start.
	initialCluster string
	// bursts counts requests that come from outside the process.
	bursts *activity.Bursts
	// client makes a client of the datastore; wire sets it.
	client func() (*clientv3.Client, error)
	// joined says that this start has taken over a cluster's keys.
	joined bool
	// nodePassword is by which this machine keeps its node's name.
	nodePassword string
	// ring is the keys of Secrets, and encryption uses them.
	ring       keyring.Ring
	encryption *apiserver.Encryption
	// takeKeysOver has everything here use the keys on disk, which other servers
	// have changed.
	takeKeysOver func(context.Context) error
	// syncing is held while the keys on disk and in the datastore are compared.
	syncing sync.Mutex
}

// prepare binds the port, looks at the host, makes certificates and unpacks
// helper programs; the last goes on beside the others.
func prepare(ctx context.Context, cfg config.Server, logs *logging.Logs) (_ *parts, err error) {
	p := &parts{cfg: cfg, logs: logs, files: pki.ServerFilesOf(cfg.Layout), bursts: activity.New()}
	if p.listener, err = listen(cfg.Listener); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.listener.Close()
		}
	}()
	work, ctx := errgroup.WithContext(ctx)
	if !cfg.DisableAgent {
		work.Go(func() (err error) {
			p.helpers, err = embedded.Find(ctx, cfg.Layout)
			return err
		})
	}
	work.Go(func() error { return p.prepareHost(ctx) })
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return p, nil
}

// prepareHost makes certificates for the addresses that the host turns out to have.
func (p *parts) prepareHost(ctx context.Context) (err error) {
	if p.host, err = agent.Inspect(ctx, p.look(), p.logs.For("host")); err != nil {
		return err
	}
	if err := p.joinOthers(ctx); err != nil {
		return err
	}
	if err := p.moveToEtcd(); err != nil {
		return err
	}
	p.pki = p.certificates()
	if err := pki.WaitForClock(ctx, p.cfg.Layout, func(e *pki.ClockError) {
		p.logs.For("certificates").Warn("Waiting for the clock to be set: ", e)
	}); err != nil {
		return err
	}
	if err := p.adoptKeys(ctx); err != nil {
		return err
	}
	if err := p.prepareEncryption(); err != nil {
		return err
	}
	if p.certs, err = pki.Ensure(p.pki, time.Now(), p.logs.For("certificates")); err != nil {
		return err
	}
	return p.prepareTokens()
}

// prepareTokens makes the secrets with which machines join.
func (p *parts) prepareTokens() (err error) {
	var given token.Given
	if given.Server, err = token.Read(p.cfg.Join.Token.Reveal(), p.cfg.Join.TokenFile); err != nil {
		return fmt.Errorf("--token: %w", err)
	}
	if given.Agent, err = token.Read(p.cfg.Join.AgentToken.Reveal(), p.cfg.Join.AgentTokenFile); err != nil {
		return fmt.Errorf("--agent-token: %w", err)
	}
	if p.tokens, err = token.Open(p.cfg.Layout, p.serverCA(), given); err != nil {
		return err
	}
	if !p.cfg.DisableAgent {
		p.nodePassword, err = token.NodePassword(p.cfg.Layout)
	}
	return err
}

func (p *parts) look() agent.Look {
	return agent.Look{
		Layout:       p.cfg.Layout,
		Node:         p.cfg.Node,
		Network:      p.cfg.Network,
		DisableAgent: p.cfg.DisableAgent,
		DisableProxy: p.cfg.DisableKubeProxy,
	}
}

func listen(c config.Listener) (net.Listener, error) {
	address := net.JoinHostPort(c.BindAddress.String(), strconv.Itoa(c.Port))
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d is in use by another process, so the API can't be served on %s: stop that process (`ss -tlnp 'sport = :%d'` names it) or choose another port with --https-listen-port", c.Port, address, c.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("no interface of this host has the address %s: correct --bind-address", c.BindAddress)
	case err != nil:
		return nil, fmt.Errorf("listening on %s for the API: %w", address, err)
	}
	return l, nil
}

// advertised is the address by which others reach the API server.
func (p *parts) advertised() netip.Addr {
	switch {
	case p.cfg.Listener.AdvertiseAddress.IsValid():
		return p.cfg.Listener.AdvertiseAddress
	case len(p.cfg.Node.ExternalIPs) > 0:
		return p.cfg.Node.ExternalIPs[0]
	case len(p.host.Addresses.Node) > 0:
		return p.host.Addresses.Node[0]
	}
	return p.cfg.Listener.BindAddress
}
