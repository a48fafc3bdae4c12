// Package joinapi is a server's side of joining: it answers /v1-skiff/ on the
// API's port, decides who may have which certificates, and keeps nodes' names
// for the machines that had them first. It is a component; the wiring puts its
// handler in front of the API server and is the only one to import it.
package joinapi

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// Config is what the join API is told. It never changes.
type Config struct {
	// Tokens are the server's own.
	Tokens *token.Store
	// Authorities sign; Serving is the API's certificate, whose names and
	// addresses no node may have.
	Authorities func() *pki.Authorities
	Serving     *pki.CertSource
	// Cluster is what nodes are told, without Servers and CAs.
	Cluster protocol.ClusterConfig
	// Self is this server's address, "host:port".
	Self string
	// OwnNode is the name of the server's own node and OwnPassword its node
	// password; empty without a node part.
	OwnNode, OwnPassword string
	// Admit lets servers in.
	Admit Admit
	// Rotate replaces the server token, or that of agents, for all servers.
	Rotate func(ctx context.Context, next token.Token, agent bool) (token.Token, error)
	// Handlers answer further paths, for nodes with a certificate only, whose
	// name protocol.NodeFrom finds in the request's context. They bound
	// themselves what they take.
	Handlers map[string]http.Handler
	// AdminHandlers answer further paths, for administrators only.
	AdminHandlers map[string]http.Handler
}

// API is the join API: a component, and a handler for protocol.Prefix. The
// handler may be called at any time; until the component is ready it asks
// callers to come back.
type API struct {
	cfg    Config
	client kubernetes.Interface
	log    *logrus.Entry

	nodes   *nodes
	servers *servers
	limit   *limiter
	reads   slots
	writes  slots
	waits   slots
	hashing sync.Mutex // one password at a time: each takes memory

	ready chan struct{} // closed when requests are answered
	// running ends when requests that wait must go.
	running context.Context
	end     context.CancelFunc
}

var (
	_ component.Component = (*API)(nil)
	_ http.Handler        = (*API)(nil)
)

// New makes the API. client needs what ClusterRules and SystemRules say.
func New(cfg Config, client *rest.Config, log *logrus.Entry) (*API, error) {
	c, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the join API's client: %w", err)
	}
	a := &API{
		cfg: cfg, client: c, log: log,
		limit: newLimiter(), reads: make(slots, maxReads), writes: make(slots, maxWrites), waits: make(slots, maxWaits),
		ready: make(chan struct{}),
	}
	a.running, a.end = context.WithCancel(context.Background())
	a.servers = newServers(c, cfg.Self)
	a.nodes = newNodes(c, a.own, log)
	return a, nil
}

// Name implements component.Component.
func (a *API) Name() string { return "join" }

// Run implements component.Component.
func (a *API) Run(ctx context.Context, ready func()) error {
	defer a.end()
	if a.cfg.OwnNode != "" {
		if err := a.claimOwn(ctx); err != nil {
			return fmt.Errorf("keeping the name %s for this server's node: %w", a.cfg.OwnNode, err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.servers.run(ctx) })
	wg.Go(func() { a.nodes.run(ctx) })
	if !a.servers.synced(ctx) || !a.nodes.synced(ctx) {
		return context.Cause(ctx)
	}
	close(a.ready)
	ready()
	<-ctx.Done()
	return nil
}

// ClusterRules are what the API's identity needs in the whole cluster.
func ClusterRules() []rbacv1.PolicyRule {
	read := []string{"get", "list", "watch"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
	}
}

// SystemRules are what it needs in kube-system: bootstrap tokens and node
// passwords.
func SystemRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "create", "update", "delete"}}}
}

const (
	// maxReads and maxWrites bound what is worked on at a time; a request
	// takes milliseconds.
	maxReads  = 20
	maxWrites = 10
	// maxWaits bounds those that wait for news of servers: one per agent.
	maxWaits = 4096
	// maxBody bounds a request, in bytes; the largest has four signing
	// requests of about a kilobyte.
	maxBody = 64 << 10
	// bodyTimeout is how long a request's body may take.
	bodyTimeout = 10 * time.Second
	// restTimeout is how long what is left of it may take after the answer.
	restTimeout = time.Second
	// maxWait is how long an answer to QueryAfter may take.
	maxWait = 5 * time.Minute
)

// slots are places for requests that are worked on.
type slots chan struct{}

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) free() { <-s }
