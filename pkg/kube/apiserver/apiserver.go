// Package apiserver runs the upstream API server inside the process: one TLS
// listener for the world and the same handler chain for in-process clients. It
// is imported by the wiring only.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
)

// Config is what the API server needs to know. All files are PEM.
type Config struct {
	Listener         net.Listener // bound already; served with TLS
	AdvertiseAddress netip.Addr
	AdvertisePort    int
	ServiceCIDRs     []netip.Prefix
	NodePortRange    string
	ClusterDomain    string

	ServingCert, ServingKey             string
	ClientCA                            string
	RequestHeaderCA                     string
	ProxyClientCert, ProxyClientKey     string
	KubeletCA                           string
	KubeletClientCert, KubeletClientKey string
	ServiceAccountKey                   string

	// Etcd is the datastore's endpoint, with TLS files where it needs them.
	Etcd EtcdConfig
	// Encryption of Secrets, unless the user's arguments name a configuration.
	Encryption *Encryption
	// Egress connects to what is in the cluster: kubelets, pods, Services.
	// nil: directly.
	Egress func(ctx context.Context, network, address string) (net.Conn, error)
	// Forsaken, if not nil, says that the datastore cannot answer. Then the end
	// of the server does not wait for what upstream still wants to write.
	Forsaken func() bool
	// Single says that no other API server shares the datastore, so that
	// nothing has to be written to tell others that this one is alive.
	Single bool
	// Pprof serves profiles to administrators.
	Pprof bool
	// ExtraArgs are the user's, "name=value", applied last.
	ExtraArgs []string
	// Front answers a few paths of Skiff's own and passes the rest on.
	Front func(next http.Handler) http.Handler
}

// EtcdConfig is where the API server finds its datastore.
type EtcdConfig struct {
	Endpoints []string
	// Datastore is set when it runs in this process; the endpoints are still
	// there for the few parts of upstream that only know connections.
	Datastore     Datastore
	CA, Cert, Key string
}

// readyInterval is the time between looks at /readyz while the server starts.
// A look costs some microseconds and stops with the first success; upstream
// offers no signal for it.
const readyInterval = 5 * time.Millisecond

type server struct {
	cfg         Config
	switchboard *inproc.Switchboard
	log         *logrus.Entry
}

// New makes the component. It is ready when /readyz says so, which includes
// the bootstrap of RBAC roles on a first start.
func New(cfg Config, switchboard *inproc.Switchboard, log *logrus.Entry) component.Component {
	return &server{cfg: cfg, switchboard: switchboard, log: log}
}

// Name implements component.Component.
func (s *server) Name() string { return "apiserver" }

// StopTimeout implements component.StopBounder: requests in flight are waited for.
func (s *server) StopTimeout() time.Duration { return 4 * time.Second }

// Run implements component.Component.
func (s *server) Run(ctx context.Context, ready func()) error {
	opts, err := completeOptions(ctx, s.cfg)
	if err != nil {
		return err
	}
	config, err := newConfig(opts, s.cfg, s.switchboard)
	if err != nil {
		return fmt.Errorf("configuring the API server: %w", err)
	}
	completed, err := config.Complete()
	if err != nil {
		return fmt.Errorf("completing the API server's configuration: %w", err)
	}
	chain, err := app.CreateServerChain(completed)
	if err != nil {
		return fmt.Errorf("building the API server: %w", err)
	}
	builtIn := completed.KubeAPIs.ControlPlane.Generic
	if err := serveDocuments(chain.GenericAPIServer, builtIn.OpenAPIConfig, builtIn.OpenAPIV3Config); err != nil {
		return err
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("preparing the API server: %w", err)
	}
	// Descriptions of all types, which documents make again when they need them.
	builtIn.OpenAPIV3Config.Definitions = nil
	if ctx.Err() != nil { // its start hooks would take that for their failure
		chain.GenericAPIServer.Destroy()
		return nil
	}
	handler := chain.GenericAPIServer.Handler
	if s.cfg.Front != nil {
		handler.FullHandlerChain = s.cfg.Front(handler.FullHandlerChain)
	}
	handler.FullHandlerChain = endWith(ctx, handler.FullHandlerChain)
	s.switchboard.Connect(handler)

	go s.announce(ctx, handler, ready)
	if err := s.serve(ctx, prepared.Run); err != nil {
		return fmt.Errorf("serving the API: %w", err)
	}
	if ctx.Err() == nil {
		return errors.New("the API server ended by itself")
	}
	return nil
}

// farewell is how long the end waits for a datastore that cannot answer.
const farewell = 2 * time.Second

func (s *server) serve(ctx context.Context, run func(context.Context) error) error {
	if s.cfg.Forsaken == nil {
		return run(ctx)
	}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(farewell):
	}
	if s.cfg.Forsaken() {
		s.log.Warn("The API server ends without taking leave of the others, because the datastore does not answer")
		return nil
	}
	return <-ended
}

// announce calls ready when the server says that it is.
func (s *server) announce(ctx context.Context, h http.Handler, ready func()) {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		if probe(ctx, h) {
			ready()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// probe asks /readyz as an anonymous client would. A request that is given up,
// as when the server is told to stop meanwhile, ends in a panic that net/http's
// server recovers from.
func probe(ctx context.Context, h http.Handler) bool {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, never wrapped
			panic(p)
		}
	}()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code == http.StatusOK
}
