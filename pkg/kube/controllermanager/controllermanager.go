// Package controllermanager runs upstream's controllers inside the process,
// each under its own service account. It is imported by the wiring only.
package controllermanager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/mux"
	v1core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	genericcontrollermanager "k8s.io/controller-manager/app"
	controllerhealthz "k8s.io/controller-manager/pkg/healthz"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/config"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Config is what the controllers need to know. All files are PEM.
type Config struct {
	ClusterCIDRs      []netip.Prefix
	ServiceCIDRs      []netip.Prefix
	ServiceAccountKey string
	// ServerCA is published to every namespace, and is in service account tokens.
	ServerCA string
	// ClientCA and ServingCA sign certificate requests of their signers.
	ClientCA, ClientCAKey   string
	ServingCA, ServingCAKey string
	// VolumePluginDir is where FlexVolume plugins are, the kubelet's too.
	VolumePluginDir string
	Pprof           bool
	// ExtraArgs are the user's, "name=value", applied last.
	ExtraArgs []string
}

// ClientFor makes a client configuration that acts as a user, in memory.
type ClientFor func(user.Info) *rest.Config

// stopTimeout is how long controllers get to finish what they are doing.
const stopTimeout = 2 * time.Second

type manager struct {
	cfg    Config
	client ClientFor
	log    *logrus.Entry
}

// New makes the component. It is ready when all controllers are started; their
// caches fill while they run.
func New(cfg Config, client ClientFor, log *logrus.Entry) component.Component {
	return &manager{cfg: cfg, client: client, log: log}
}

// Name implements component.Component.
func (m *manager) Name() string { return "controller-manager" }

// StopTimeout implements component.StopBounder.
func (m *manager) StopTimeout() time.Duration { return stopTimeout + 500*time.Millisecond }

// Run implements component.Component. The order is upstream's app.Run; what is
// left out is leader election, and what differs is where clients come from.
func (m *manager) Run(ctx context.Context, ready func()) error {
	c, err := completeConfig(ctx, m.cfg, m.client)
	if err != nil {
		return err
	}
	c.EventBroadcaster.StartStructuredLogging(0)
	c.EventBroadcaster.StartRecordingToSink(&v1core.EventSinkImpl{Interface: c.Client.CoreV1().Events("")})
	defer c.EventBroadcaster.Shutdown()

	health := controllerhealthz.NewMutableHealthzHandler()
	mux, err := serve(ctx, c, health)
	if err != nil {
		return err
	}
	controllers, cc, err := m.build(ctx, c, mux, health)
	if ctx.Err() != nil {
		return nil // some controllers are built with what they read, and fail for that
	}
	if err != nil {
		return err
	}
	cc.InformerFactory.Start(ctx.Done())
	defer cc.InformerFactory.Shutdown()
	cc.ObjectOrMetadataInformerFactory.Start(ctx.Done())
	close(cc.InformersStarted)
	ready()

	if !app.RunControllers(ctx, cc, controllers, app.ControllerStartJitter, stopTimeout) {
		return errors.New("some controllers did not stop in time")
	}
	if ctx.Err() == nil {
		return errors.New("all controllers ended by themselves")
	}
	return nil
}

func (m *manager) build(ctx context.Context, c *config.CompletedConfig, mux *mux.PathRecorderMux, health app.HealthCheckAdder) ([]app.Controller, app.ControllerContext, error) {
	root := rootClients{config: c.Kubeconfig}
	clients := serviceAccountClients{client: m.client}
	cc, err := app.CreateControllerContext(ctx, c, root, clients)
	if err != nil {
		return nil, cc, fmt.Errorf("preparing the controllers: %w", err)
	}
	cc.ClientBuilder = cidrClients{serviceAccountClients: clients, nodes: cc.InformerFactory.Core().V1().Nodes().Lister()}
	descriptors := app.NewControllerDescriptors()
	policies := descriptors[names.ValidatingAdmissionPolicyStatusController]
	delete(descriptors, names.ValidatingAdmissionPolicyStatusController)
	// Upstream builds this one with a client that only its own Run has.
	delete(descriptors, names.ServiceAccountTokenController)
	controllers, err := app.BuildControllers(ctx, cc, descriptors, mux, health)
	if err != nil {
		return nil, cc, fmt.Errorf("building the controllers: %w", err)
	}
	tokens, err := newTokensController(ctx, cc, root)
	if err != nil {
		return nil, cc, err
	}
	controllers = append(controllers, tokens)
	if cc.IsControllerEnabled(policies) {
		status, err := newPolicyStatus(cc)
		if err != nil {
			return nil, cc, err
		}
		controllers = append(controllers, status)
	}
	return controllers, cc, nil
}

// serve opens upstream's own port when the user asked for it with
// secure-port; health and metrics are otherwise part of :6443's.
func serve(ctx context.Context, c *config.CompletedConfig, health *controllerhealthz.MutableHealthzHandler) (*mux.PathRecorderMux, error) {
	if c.SecureServing == nil {
		return nil, nil
	}
	m := genericcontrollermanager.NewBaseHandler(&c.ComponentConfig.Generic.Debugging, health)
	handler := genericcontrollermanager.BuildHandlerChain(m, &c.Authorization, &c.Authentication)
	if _, _, err := c.SecureServing.Serve(handler, 0, ctx.Done()); err != nil {
		return nil, fmt.Errorf("serving the controller manager's port: %w", err)
	}
	return m, nil
}
