// Package dns is the cluster's DNS: CoreDNS inside the process, on every node,
// at a link-local address that pods have as their name server, and at the first
// address of the node's pod network, where the Service kube-dns leads to. It
// also holds the controller that keeps that Service.
//
// Only the wiring packages import it. It changes state of the process in one
// place, plugins.go: CoreDNS' list of plugins. CoreDNS logs to the standard
// library's logger, which pkg/logging leads into ours.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config says where DNS is served, and what of.
type Config struct {
	// NodeName is this node's, for messages.
	NodeName string
	// Domain is the cluster's, "cluster.local".
	Domain string
	// Listen are the link-local addresses that pods have as name servers, one
	// per address family. They must be bindable, or nothing starts.
	Listen []netip.Addr
	// ClusterCIDRs are the networks of the pods: who may ask at the pod
	// addresses, besides the node itself.
	ClusterCIDRs []netip.Prefix
	// ServiceAddrs are the addresses of the Service kube-dns; they are never
	// taken as name servers for external names.
	ServiceAddrs []netip.Addr
	// Upstreams are the name servers for external names, in order.
	Upstreams []netip.AddrPort
}

// Changes tell what Config could not know yet. Nil channels never change
// anything; each value replaces the one before.
type Changes struct {
	// Upstreams replaces Config.Upstreams.
	Upstreams <-chan []netip.AddrPort
	// PodAddrs gives the first address of each of this node's pod networks
	// (FirstAddrs of spec.podCIDRs).
	PodAddrs <-chan []netip.Addr
}

type dnsComponent struct {
	cfg     Config
	changes Changes
	client  *rest.Config
	log     *logrus.Entry
}

// New makes the DNS server of a node. client must have ClusterRules and
// SystemRules; it may block until there is an API server.
//
// It is ready when its sockets are open, which needs neither the API server nor
// the pod network. Look-ups of cluster names wait for the first complete view
// of the cluster, for 4 s at most, and fail temporarily after that.
func New(cfg Config, changes Changes, client *rest.Config, log *logrus.Entry) component.Component {
	return &dnsComponent{cfg: cfg, changes: changes, client: client, log: log}
}

// Name implements component.Component.
func (*dnsComponent) Name() string { return "dns" }

// Run implements component.Component.
func (d *dnsComponent) Run(ctx context.Context, ready func()) error {
	client := patient(d.client)
	core, err := corev1client.NewForConfig(client)
	if err != nil {
		return fmt.Errorf("making a client for DNS: %w", err)
	}
	l := &loop{dnsComponent: d, core: core, lost: make(chan struct{}, 1), customs: make(chan *corev1.ConfigMap), upstreams: d.cfg.Upstreams}
	l.server = &server{
		cfg: d.cfg, log: d.log, path: "DNS at " + joined(d.cfg.Listen),
		cluster: newCluster(client), nodes: &nodes{}, addresses: &addresses{log: d.log},
	}
	defer l.server.cluster.stop()
	return l.run(ctx, ready)
}

// loop is one goroutine that brings all changes to the server, one by one.
type loop struct {
	*dnsComponent
	core    corev1client.CoreV1Interface
	server  *server
	lost    chan struct{} // an address was taken from the interface
	customs chan *corev1.ConfigMap

	upstreams []netip.AddrPort
	podAddrs  []netip.Addr // those that are listened on
	wantAddrs []netip.Addr // those that should be
	custom    *custom      // the last good one
}

func (l *loop) run(ctx context.Context, ready func()) error {
	addresses := l.server.addresses
	if err := addresses.want(l.cfg.Listen); err != nil {
		return fmt.Errorf("preparing the address of DNS: %w", err)
	}
	if err := addresses.watch(ctx, l.addressLost); err != nil {
		return err
	}
	if err := l.server.apply(ctx, l.settings()); err != nil {
		return fmt.Errorf("starting DNS: %w", explain(err, l.cfg.Listen[0], "choose another address with --link-local-dns"))
	}
	defer l.server.stop()
	ready()

	informers, stopped := context.WithCancel(ctx)
	done := l.watch(informers)
	defer done()
	defer stopped()

	upstreams, podAddrs := l.changes.Upstreams, l.changes.PodAddrs
	for {
		select {
		case <-ctx.Done():
			return nil
		case list, ok := <-upstreams:
			if !ok {
				upstreams = nil
				continue
			}
			l.upstreams = list
			l.apply(ctx)
		case list, ok := <-podAddrs:
			if !ok {
				podAddrs = nil
				continue
			}
			l.movePodAddrs(ctx, list)
		case cm := <-l.customs:
			l.takeCustom(ctx, cm)
		case <-l.lost:
			if err := addresses.ensure(); err != nil {
				l.log.WithError(err).Error("Pods may lose DNS")
			}
			if !slices.Equal(l.podAddrs, l.wantAddrs) {
				l.movePodAddrs(ctx, l.wantAddrs)
			}
		}
	}
}

func (l *loop) settings() settings {
	listen := append(slices.Clone(l.cfg.Listen), l.podAddrs...)
	own := append(slices.Clone(listen), l.cfg.ServiceAddrs...)
	return settings{domain: l.cfg.Domain, listen: listen, upstreams: usable(l.upstreams, own), custom: l.custom}
}

// apply is for changes that cannot be wrong; what fails all the same leaves the
// server as it was.
func (l *loop) apply(ctx context.Context) {
	if err := l.server.apply(ctx, l.settings()); err != nil {
		l.log.WithError(err).Error("Changing the configuration of DNS failed; it goes on with the old one")
	}
}

// addressLost wakes the loop; one pending wake-up is enough.
func (l *loop) addressLost() {
	select {
	case l.lost <- struct{}{}:
	default:
	}
}

// movePodAddrs begins to listen at the addresses in the pod network. They are
// only the way of the Service kube-dns: if one cannot be had, pods still have
// their name server.
func (l *loop) movePodAddrs(ctx context.Context, want []netip.Addr) {
	l.wantAddrs = slices.Clone(want)
	if err := l.server.addresses.want(append(slices.Clone(l.cfg.Listen), want...)); err != nil {
		l.log.WithError(err).Error("The Service kube-dns does not work on this node")
		return
	}
	old := l.podAddrs
	l.podAddrs = nil
	for _, addr := range want {
		if !slices.Contains(old, addr) {
			if err := bindable(ctx, addr); err != nil {
				l.log.WithError(explain(err, addr, "use another --cluster-cidr")).Error("The Service kube-dns does not work on this node")
				continue
			}
		}
		l.podAddrs = append(l.podAddrs, addr)
	}
	l.apply(ctx)
	for _, addr := range old {
		if !slices.Contains(want, addr) {
			if err := l.server.addresses.forget(addr); err != nil {
				l.log.WithError(err).Warn("An address of DNS that is no longer used stays")
			}
		}
	}
}

// takeCustom takes over the user's own configuration, or keeps the last good one.
func (l *loop) takeCustom(ctx context.Context, cm *corev1.ConfigMap) {
	var data map[string]string
	if cm != nil {
		data = cm.Data
	}
	before := l.custom
	parsed, err := parseCustom(data)
	if err == nil {
		l.custom = parsed
		if err = l.server.apply(ctx, l.settings()); err != nil {
			l.custom = before
			err = parsed.blame(err)
		}
	}
	switch {
	case err != nil && cm == nil:
		l.log.WithError(err).Error("Changing the configuration of DNS failed; it goes on with the old one")
	case err != nil:
		reportBroken(ctx, l.core, l.cfg.NodeName, cm, err, l.log)
	case before != nil || len(data) > 0:
		l.log.WithField("keys", len(data)).Infof("ConfigMap %s/%s is in use", CustomNamespace, CustomConfigMap)
	}
}

// watch starts the informers; the result waits for their end.
func (l *loop) watch(ctx context.Context) (wait func()) {
	custom := watchCustom(ctx, l.core, func(cm *corev1.ConfigMap) {
		select {
		case l.customs <- cm:
		case <-ctx.Done():
		}
	})
	names := watchNodes(ctx, l.core, l.server.nodes)
	done := make(chan struct{})
	go func() { defer close(done); custom() }()
	namesDone := make(chan struct{})
	go func() { defer close(namesDone); names() }()
	return func() { <-done; <-namesDone }
}

// FirstAddrs are the first addresses of pod networks, which the bridge of the
// pod network and DNS share.
func FirstAddrs(podCIDRs []string) ([]netip.Addr, error) {
	var out []netip.Addr
	var errs []error
	for _, cidr := range podCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading a pod CIDR: %w", err))
			continue
		}
		out = append(out, prefix.Masked().Addr().Next())
	}
	return out, errors.Join(errs...)
}
