// Package kubelet runs the upstream kubelet inside the process. It is imported
// by the wiring only.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	v1core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config is what the kubelet needs to know. All files are PEM.
type Config struct {
	NodeName string
	NodeIPs  []netip.Addr
	Labels   map[string]string
	Taints   []corev1.Taint
	// ProviderID is how a cloud knows the node; empty: not yet, or not at all.
	ProviderID string
	// AddressesFromOutside leaves the node's addresses to a cloud controller.
	AddressesFromOutside bool

	ClusterDNS    []netip.Addr
	ClusterDomain string
	ResolvConf    string

	RootDir         string // /var/lib/kubelet
	StaticPodPath   string
	VolumePluginDir string
	// DropInDir holds KubeletConfiguration fragments, *.conf, merged in
	// lexical order over Skiff's own settings.
	DropInDir string

	RuntimeEndpoint string // unix://...
	ImageEndpoint   string // empty: RuntimeEndpoint
	CgroupRoot      string
	CgroupDriver    string // "systemd" or "cgroupfs"
	// CgroupV1 says that the host has the old hierarchy, which upstream
	// refuses unless told otherwise.
	CgroupV1              bool
	ProtectKernelDefaults bool
	// Alone says that the only API server is in this process, so that whoever
	// would miss this node's heartbeats ends with it.
	Alone bool
	// IPTables says that the service proxy uses iptables, for which the
	// kubelet keeps chains.
	IPTables bool
	// Privileged says that the process has CAP_SYS_RESOURCE: it may raise
	// limits and lower OOM scores.
	Privileged bool

	ServingCert, ServingKey string
	ClientCA                string

	CredentialProviderBinDir string
	CredentialProviderConfig string
	Pprof                    bool
	// OnHeartbeatFailure is called when the API could not be told that the node
	// is alive, so that broken connections are given up; nil: nothing is done.
	OnHeartbeatFailure func()
	// ExtraArgs are the user's, "name=value", applied last.
	ExtraArgs []string
}

type node struct {
	cfg    Config
	client *rest.Config
	log    *logrus.Entry
}

// New makes the component. It is ready when the Node object exists. client
// acts as system:node:NAME.
func New(cfg Config, client *rest.Config, log *logrus.Entry) component.Component {
	return &node{cfg: cfg, client: client, log: log}
}

// Name implements component.Component.
func (n *node) Name() string { return "kubelet" }

// Run implements component.Component.
func (n *node) Run(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(n.cfg.StaticPodPath, 0o700); err != nil {
		return fmt.Errorf("making the directory of static pods: %w", err)
	}
	server, err := kubeletServer(n.cfg)
	if err != nil {
		return err
	}
	deps, err := n.dependencies(ctx, server)
	if err != nil {
		return err
	}
	go func() {
		if awaitNode(ctx, deps.KubeClient, n.cfg.NodeName, registered) == nil {
			ready()
		}
	}()
	if err := app.Run(ctx, server, deps, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("the kubelet ended by itself")
	}
	return nil
}

// dependencies are upstream's, with in-memory clients in place of those that
// it would make from a kubeconfig.
func (n *node) dependencies(ctx context.Context, s *options.KubeletServer) (*kubelet.Dependencies, error) {
	deps, err := app.UnsecuredDependencies(ctx, s, utilfeature.DefaultFeatureGate)
	if err != nil {
		return nil, fmt.Errorf("preparing the kubelet: %w", err)
	}
	if deps.KubeClient, err = kubernetes.NewForConfig(n.client); err != nil {
		return nil, fmt.Errorf("the kubelet's client: %w", err)
	}
	if deps.EventClient, err = v1core.NewForConfig(n.client); err != nil {
		return nil, fmt.Errorf("the kubelet's event client: %w", err)
	}
	heartbeat := rest.CopyConfig(n.client)
	// Upstream's bound: a heartbeat that takes longer than its period, or
	// than the lease lasts, is as good as none.
	heartbeat.Timeout = min(s.NodeStatusUpdateFrequency.Duration, time.Duration(s.NodeLeaseDurationSeconds)*time.Second)
	if deps.HeartbeatClient, err = kubernetes.NewForConfig(heartbeat); err != nil {
		return nil, fmt.Errorf("the kubelet's heartbeat client: %w", err)
	}
	deps.OnHeartbeatFailure = n.cfg.OnHeartbeatFailure
	if deps.OnHeartbeatFailure == nil {
		deps.OnHeartbeatFailure = func() {} // nothing to re-dial in memory
	}
	return deps, nil
}
