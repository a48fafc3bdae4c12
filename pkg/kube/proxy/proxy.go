// Package proxy runs upstream's service proxy inside the process: the proxiers
// and informers of kube-proxy without its command, whose node watcher ends the
// process and whose metrics port is unauthenticated. It is imported by the
// wiring only.
package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	proxyscheme "k8s.io/kubernetes/pkg/proxy/apis/config/scheme"
	"k8s.io/kubernetes/pkg/proxy/conntrack"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	proxymetrics "k8s.io/kubernetes/pkg/proxy/metrics"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config is what the proxy needs to know.
type Config struct {
	NodeName     string
	NodeIPs      []netip.Addr
	ClusterCIDRs []netip.Prefix
	// Mode is "nftables" or "iptables".
	Mode string
	// LeaveConntrack says that conntrack's sysctls can't be written, as in a
	// network namespace that is not the host's.
	LeaveConntrack bool
	// ConfigFile is where the effective configuration is written for people
	// to look at.
	ConfigFile string
	// ExtraArgs are the user's, "name=value", applied last.
	ExtraArgs []string
}

type proxy struct {
	cfg    Config
	client *rest.Config
	log    *logrus.Entry
}

// New makes the component. It is ready when the rules of all Services that
// exist are in the kernel. client acts as system:kube-proxy.
func New(cfg Config, client *rest.Config, log *logrus.Entry) component.Component {
	return &proxy{cfg: cfg, client: client, log: log}
}

// Name implements component.Component.
func (p *proxy) Name() string { return "kube-proxy" }

// Run implements component.Component. Rules stay when it ends, so that
// Services keep working while Skiff restarts.
func (p *proxy) Run(ctx context.Context, ready func()) error {
	config, err := effectiveConfig(ctx, p.cfg)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(p.client)
	if err != nil {
		return fmt.Errorf("the proxy's client: %w", err)
	}
	if err := conntrack.SetSysctls(ctx, &config.Linux.Conntrack); err != nil {
		return fmt.Errorf("setting conntrack's sysctls: %w; kube-proxy-arg conntrack-max-per-core=0 leaves them alone", err)
	}
	proxymetrics.RegisterMetrics(config.Mode)

	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	broadcaster.StartRecordingToSink(ctx.Done())
	recorder := broadcaster.NewRecorder(proxyscheme.Scheme, "kube-proxy")

	self := &selfNode{}
	health := healthServer(config, self)
	proxier, err := newProxier(ctx, config, p.cfg, recorder, health)
	if err != nil {
		return err
	}
	synced := watch(ctx, client, config, p.cfg.NodeName, proxier, self)
	go proxier.SyncLoop()
	failed := serveHealth(ctx, health)
	for {
		select {
		case <-synced:
			ready()
			synced = nil
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func healthServer(c *kubeproxyconfig.KubeProxyConfiguration, self *selfNode) *healthcheck.ProxyHealthServer {
	if c.HealthzBindAddress == "" {
		return nil
	}
	return healthcheck.NewProxyHealthServer(c.HealthzBindAddress, 2*c.SyncPeriod.Duration, self)
}

// serveHealth answers /healthz and /livez for load balancers in front of the
// node. The channel yields why it can't.
func serveHealth(ctx context.Context, health *healthcheck.ProxyHealthServer) <-chan error {
	failed := make(chan error, 1)
	if health != nil {
		go func() {
			failed <- fmt.Errorf("%w; kube-proxy-arg healthz-bind-address=ADDRESS:PORT chooses another", health.Run(ctx))
		}()
	}
	return failed
}

// selfNode holds the latest state of this node for the health server.
type selfNode struct{ current atomic.Pointer[corev1.Node] }

// Node returns the node, nil before it was seen.
func (s *selfNode) Node() *corev1.Node { return s.current.Load() }

// OnNodeChange implements the node handler of upstream's node configuration.
func (s *selfNode) OnNodeChange(n *corev1.Node) { s.current.Store(n) }

// OnNodeDelete implements the node handler of upstream's node configuration.
func (s *selfNode) OnNodeDelete(*corev1.Node) { s.current.Store(nil) }

// OnNodeSynced implements the node handler of upstream's node configuration.
func (s *selfNode) OnNodeSynced() {}
