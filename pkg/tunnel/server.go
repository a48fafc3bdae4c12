package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/internal/deadpeer"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// ServerConfig is what a server's end of the tunnels is told.
type ServerConfig struct {
	Mode Mode
	// LocalNode is this server's own node, which is reached directly; "" when
	// it has none.
	LocalNode string
	// Authorize tells nodes from others.
	Authorize Authorizer
	// ClusterCIDRs and ServiceCIDRs are the addresses of pods and Services.
	ClusterCIDRs, ServiceCIDRs []netip.Prefix
}

// Server is the server's end: it takes agents' connections and dials through
// them. It is a component; its methods work before Run, too, and are safe for
// concurrent use.
type Server struct {
	cfg    ServerConfig
	client kubernetes.Interface
	nodes  *nodes
	direct func(ctx context.Context, network, address string) (net.Conn, error)
	log    *logrus.Entry

	mu       sync.Mutex
	sessions map[string][]*session // by node, the newest first
	appeared chan struct{}         // closed when the next session is there
	stopped  bool
}

// NewServer makes the server's end. client must have ClusterRules.
func NewServer(cfg ServerConfig, client *rest.Config, log *logrus.Entry) (*Server, error) {
	c, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the tunnel's client: %w", err)
	}
	return newServer(cfg, c, log), nil
}

func newServer(cfg ServerConfig, client kubernetes.Interface, log *logrus.Entry) *Server {
	return &Server{
		cfg:      cfg,
		client:   client,
		nodes:    newNodes(log),
		direct:   (&net.Dialer{Timeout: connectTimeout, KeepAlive: connectTimeout}).DialContext, // as upstream's
		log:      log,
		sessions: map[string][]*session{},
		appeared: make(chan struct{}),
	}
}

// Name implements component.Component.
func (*Server) Name() string { return "tunnel" }

// Run implements component.Component. Nodes are watched from the first
// connection of an agent on, so a cluster without agents pays nothing.
func (s *Server) Run(ctx context.Context, ready func()) error {
	defer s.stop()
	ready()
	select {
	case <-s.first():
	case <-ctx.Done():
		return nil
	}
	s.nodes.watch(ctx, s.client)
	return nil
}

// first is closed when there is, or was, an agent.
func (s *Server) first() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appeared
}

// ServeHTTP implements http.Handler: it takes an agent's connection over.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node, ok := s.cfg.Authorize(r)
	switch {
	case !ok:
		refuse(w, http.StatusUnauthorized, protocol.ReasonCredential, "a tunnel is for nodes: it needs a node's client certificate")
		return
	case s.cfg.Mode == ModeDisabled:
		refuse(w, http.StatusNotFound, protocol.ReasonRequest, "egress-selector-mode is disabled on this server")
		return
	case !strings.EqualFold(r.Header.Get("Upgrade"), upgrade):
		w.Header().Set("Upgrade", upgrade)
		w.Header().Set("Connection", "Upgrade")
		refuse(w, http.StatusUpgradeRequired, protocol.ReasonRequest, "this is the end of a tunnel: ask for an upgrade to "+upgrade+" by HTTP/1.1")
		return
	}
	log := s.log.WithField("node", node)
	conn, err := takeOver(w)
	if err != nil {
		log.WithError(err).Warn("An agent's connection can't be used")
		return
	}
	if err := s.serve(node, conn, r.TLS); err != nil {
		log.WithError(err).Warn("An agent's connection can't be used")
		_ = conn.Close() // it is of no use
	}
}

// refuse answers as the rest of the API does.
func refuse(w http.ResponseWriter, status int, reason protocol.Reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Who has gone does not need it.
	_ = json.NewEncoder(w).Encode(protocol.Refusal{Error: message, Reason: reason})
}

// takeOver answers the request and takes the connection out of HTTP/1.1.
func takeOver(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusHTTPVersionNotSupported, protocol.ReasonRequest, "a tunnel needs a connection of its own: use HTTP/1.1")
		return nil, fmt.Errorf("taking the connection over: %w", err)
	}
	err = errors.Join(conn.SetDeadline(time.Time{}), deadpeer.Notice(conn), early(buffered.Reader))
	if err == nil {
		_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgrade)
	}
	if err != nil {
		_ = conn.Close() // the other error is told
		return nil, fmt.Errorf("taking the connection over: %w", err)
	}
	return conn, nil
}

// early finds a peer that did not wait for the answer.
func early(r *bufio.Reader) error {
	if n := r.Buffered(); n > 0 {
		return fmt.Errorf("the peer sent %d bytes too early", n)
	}
	return nil
}

// serve keeps a session until its connection ends. A certificate is proof
// until it expires, so the connection ends then and has to be made anew.
func (s *Server) serve(node string, conn net.Conn, state *tls.ConnectionState) error {
	session, err := newSession(node, conn)
	if err != nil {
		return err
	}
	if !s.add(session) {
		return errors.New("the server is stopping")
	}
	defer s.remove(session)
	if state != nil && len(state.PeerCertificates) > 0 {
		expiry := time.AfterFunc(time.Until(state.PeerCertificates[0].NotAfter), func() { _ = session.conn.Close() })
		defer expiry.Stop()
	}
	s.log.WithField("node", node).WithField("from", conn.RemoteAddr()).Info("An agent has connected")
	<-session.conn.closed
	s.log.WithField("node", node).Info("An agent's connection has ended")
	return nil
}

func (s *Server) add(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	// The newest first: an older one may be dead without anybody knowing yet.
	s.sessions[n.node] = append([]*session{n}, s.sessions[n.node]...)
	close(s.appeared)
	s.appeared = make(chan struct{})
	return true
}

func (s *Server) remove(gone *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*session
	for _, other := range s.sessions[gone.node] {
		if other != gone {
			rest = append(rest, other)
		}
	}
	if s.sessions[gone.node] = rest; len(rest) == 0 {
		delete(s.sessions, gone.node)
	}
}

// session is a node's newest; nil when it has none.
func (s *Server) session(node string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.sessions[node]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// anySession is one of any node; nil when there is none.
func (s *Server) anySession() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range s.sessions { // in random order, which spreads the load
		return all[0]
	}
	return nil
}

// stop ends all tunnels.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, all := range s.sessions {
		for _, session := range all {
			_ = session.conn.Close() // agents notice either way
		}
	}
}
