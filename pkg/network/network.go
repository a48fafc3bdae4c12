// Package network connects pods: it tells containerd how to attach a pod to
// this node's bridge (CNI), routes between nodes with flannel's back ends in
// this process, and masquerades what leaves the cluster. The wiring packages
// import it.
//
// A node alone needs no tunnel: its back end is started when the first other
// node appears. Nothing here polls while nothing changes, but for flannel's
// host-gw back end, which looks at its routes every 10 s once there are others.
//
// The client needs get, list and watch on nodes and patch on nodes/status.
package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Back ends, by the names users give.
const (
	BackendVXLAN     = "vxlan"
	BackendHostGW    = "host-gw"
	BackendWireGuard = "wireguard-native"
	BackendNone      = "none"
)

// Config is what the pod network has to know.
type Config struct {
	Layout   layout.Layout
	NodeName string
	// NodeIPs are the node's addresses, at most one per address family is used.
	NodeIPs []netip.Addr
	// ExternalIPs replace NodeIPs as what other nodes send to, if UseExternalIPs.
	ExternalIPs    []netip.Addr
	UseExternalIPs bool
	// ClusterCIDRs is where pods have their addresses, one per address family.
	ClusterCIDRs []netip.Prefix
	// ServiceCIDRs is where Services have theirs.
	ServiceCIDRs []netip.Prefix

	// Backend is one of the constants above; NetConfFile may name another.
	Backend string
	// Iface is the link between nodes, by name or address. Empty: the one that
	// has the node's address.
	Iface string
	// NetConfFile is a flannel net-conf.json that replaces Backend.
	NetConfFile string
	// CNIConfFile is a CNI network list that replaces ours.
	CNIConfFile string
	// MasqueradeIPv6 hides pods behind the node's address for IPv6 too.
	MasqueradeIPv6 bool
	// NFTables chooses nftables for masquerading and host ports; otherwise
	// iptables.
	NFTables bool
}

// Component is the pod network. Its methods may be called from any goroutine.
type Component struct {
	cfg    Config
	client kubernetes.Interface
	log    *logrus.Entry

	once     sync.Once
	known    chan struct{} // closed when podCIDRs is set
	podCIDRs []netip.Prefix
}

var _ component.Component = (*Component)(nil)

// New returns the component "network".
func New(cfg Config, client kubernetes.Interface, log *logrus.Entry) *Component {
	return &Component{cfg: cfg, client: client, log: log, known: make(chan struct{})}
}

// Name implements component.Component.
func (c *Component) Name() string { return "network" }

// PodCIDRs waits until the node has its share of the cluster's addresses and
// returns it, one prefix per address family. With the back end "none" it may
// wait forever, because the node may never get one.
func (c *Component) PodCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	select {
	case <-c.known:
		return append([]netip.Prefix(nil), c.podCIDRs...), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the node's pod addresses: %w", context.Cause(ctx))
	}
}

// Gateways waits like PodCIDRs and returns this node's own addresses in the pod
// network, one per address family. They exist on the bridge from then on.
func (c *Component) Gateways(ctx context.Context) ([]netip.Addr, error) {
	cidrs, err := c.PodCIDRs(ctx)
	if err != nil {
		return nil, err
	}
	return gateways(cidrs), nil
}

// gateways are the first addresses of the prefixes, as CNI's host-local has it.
func gateways(cidrs []netip.Prefix) []netip.Addr {
	addrs := make([]netip.Addr, len(cidrs))
	for i, p := range cidrs {
		addrs[i] = p.Masked().Addr().Next()
	}
	return addrs
}

func (c *Component) announce(cidrs []netip.Prefix) {
	c.once.Do(func() {
		c.podCIDRs = append([]netip.Prefix(nil), cidrs...)
		close(c.known)
	})
}

// Run implements component.Component. It is ready when pods can be attached.
// Links, addresses and rules stay when it returns, because pods go on running.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if c.cfg.Backend == BackendNone {
		return c.runNone(ctx, ready)
	}
	plan, err := newPlan(c.cfg)
	if err != nil {
		return err
	}
	peers := newPeers(c.cfg, c.client)
	if err := peers.start(ctx); err != nil {
		return err
	}
	defer peers.wait()
	return c.serve(ctx, plan, peers, ready)
}

// serve follows the node object: first its pod addresses, then other nodes.
func (c *Component) serve(ctx context.Context, plan *plan, peers *peers, ready func()) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var served []netip.Prefix
	stop := func() {}
	for {
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-peers.changed:
		}
		cidrs := peers.podCIDRs()
		if len(cidrs) == 0 || samePrefixes(cidrs, served) {
			continue
		}
		if served != nil {
			c.log.WithField("was", served).WithField("is", cidrs).Warn("the node's pod addresses changed; running pods keep their old ones until they are made anew")
			stop()
		}
		if err := c.attach(plan, cidrs); err != nil {
			return err
		}
		first := served == nil
		served = cidrs
		c.announce(cidrs)
		if first {
			ready()
		}
		stop = c.startWorkers(ctx, &workers, plan, peers, cidrs)
	}
}

// attach makes everything that a pod's attachment needs. It is on the way to
// the node's readiness: milliseconds count.
func (c *Component) attach(plan *plan, cidrs []netip.Prefix) error {
	mtu := plan.mtu(c.log)
	if err := c.writeCNI(cidrs, mtu); err != nil {
		return err
	}
	if c.cfg.CNIConfFile != "" {
		return nil
	}
	if err := ensureBridge(cidrs, mtu); err != nil {
		return fmt.Errorf("prepare the bridge %s: %w", bridgeName, err)
	}
	c.routeServices()
	return nil
}

// startWorkers runs what pods do not wait for. The returned function ends it.
func (c *Component) startWorkers(ctx context.Context, all *sync.WaitGroup, plan *plan, peers *peers, cidrs []netip.Prefix) func() {
	ctx, cancel := context.WithCancel(ctx)
	var mine sync.WaitGroup
	run := func(work func(context.Context)) {
		all.Add(1)
		mine.Add(1)
		go func() {
			defer all.Done()
			defer mine.Done()
			work(ctx)
		}()
	}
	run(func(ctx context.Context) { c.keepRules(ctx, plan, cidrs) })
	run(func(ctx context.Context) { peers.reportAvailable(ctx, c.log) })
	run(func(ctx context.Context) { c.keepRoutes(ctx, plan, peers) })
	return func() {
		cancel()
		mine.Wait()
	}
}

// runNone takes away what an earlier run with a back end left, so that another
// pod network finds the node clean.
func (c *Component) runNone(ctx context.Context, ready func()) error {
	if err := c.removeOurs(ctx); err != nil {
		c.log.WithError(err).Warn("parts of the pod network used before are still there")
	}
	ready()
	<-ctx.Done()
	return nil
}

func (c *Component) removeOurs(ctx context.Context) error {
	return errors.Join(c.removeCNI(), removeRules(ctx), removeLinks(flannelLinks()))
}

func samePrefixes(a, b []netip.Prefix) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
