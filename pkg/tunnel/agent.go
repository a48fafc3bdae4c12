package tunnel

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// AgentConfig is what an agent's end of the tunnels is told.
type AgentConfig struct {
	// ServerCA verifies servers; Cert and Key are the node's client
	// certificate. The files are read again for each connection.
	ServerCA, Cert, Key string
	// Servers are the first ones, "host:port"; see SetServers.
	Servers []string
	// Fallback is the one by which the agent found the cluster. It is used
	// while none of the others can be reached: servers may not know the
	// address by which they are seen from afar. "": none.
	Fallback string
	// Targets is what servers may connect to on this node.
	Targets Targets
}

const (
	// firstRetry and lastRetry are the pauses between attempts to connect.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// settled is how long a connection has to last to count as a good one.
	settled = 10 * time.Second
	// patience is how long no server may be connected before Fallback is.
	patience = 5 * time.Second
)

// Agent keeps one connection to each server. It is a component; SetServers may
// be called at any time.
type Agent struct {
	cfg     AgentConfig
	log     *logrus.Entry
	changed chan struct{}

	mu      sync.Mutex
	servers []string
	up      int           // connections to them
	counted chan struct{} // closed when up changes
}

// NewAgent makes the agent's end.
func NewAgent(cfg AgentConfig, log *logrus.Entry) *Agent {
	a := &Agent{cfg: cfg, log: log, changed: make(chan struct{}, 1), counted: make(chan struct{})}
	a.SetServers(cfg.Servers)
	return a
}

// Name implements component.Component.
func (*Agent) Name() string { return "tunnel" }

// SetServers says which servers to connect to. Connections to others end, so
// it should be called with the whole list, and with a server's own address
// rather than with one that leads to any of them.
func (a *Agent) SetServers(list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.servers = slices.Compact(slices.Sorted(slices.Values(list)))
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// Run implements component.Component. It is ready at once: a node works while
// no server reaches it.
func (a *Agent) Run(ctx context.Context, ready func()) error {
	ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	if a.cfg.Fallback != "" {
		wg.Go(func() { a.keepFallback(ctx) })
	}
	links := map[string]context.CancelFunc{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
		}
		a.mu.Lock()
		servers := a.servers
		a.mu.Unlock()
		for server, end := range links {
			if !slices.Contains(servers, server) {
				end()
				delete(links, server)
			}
		}
		for _, server := range servers {
			if links[server] == nil {
				linked, end := context.WithCancel(ctx)
				links[server] = end
				wg.Go(func() { a.keep(linked, server, a.count) })
			}
		}
	}
}

// keepFallback has a connection to Fallback while there is none to others.
func (a *Agent) keepFallback(ctx context.Context) {
	for ctx.Err() == nil {
		up, counted := a.connected()
		var patient <-chan time.Time
		if up == 0 {
			patient = time.After(patience)
		}
		select {
		case <-ctx.Done():
			return
		case <-counted:
			continue
		case <-patient:
		}
		linked, end := context.WithCancel(ctx)
		go func() {
			select { // the first change is a connection to another server
			case <-counted:
			case <-linked.Done():
			}
			end()
		}()
		a.keep(linked, a.cfg.Fallback, func(int) {})
		end()
	}
}

// connected is how many servers are, and what is closed when that changes.
func (a *Agent) connected() (int, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up, a.counted
}

func (a *Agent) count(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up += n
	close(a.counted)
	a.counted = make(chan struct{})
}

// keep has a connection to one server for as long as ctx lasts; count is told
// of those that come and go.
func (a *Agent) keep(ctx context.Context, server string, count func(int)) {
	log := a.log.WithField("server", server)
	level := logrus.WarnLevel // of the next failure: what goes on is said once
	backoff := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		connected, err := a.link(ctx, server, count, log)
		if ctx.Err() != nil {
			return
		}
		if connected {
			level = logrus.WarnLevel
		}
		if connected && time.Since(began) > settled {
			backoff = firstRetry
		}
		log.WithError(err).Log(level, "This server can't reach the node for now; connecting again")
		level = logrus.DebugLevel
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)): // not all agents at once
		}
		backoff = min(2*backoff, lastRetry)
	}
}

// link connects to a server and serves it until the connection ends.
func (a *Agent) link(ctx context.Context, server string, count func(int), log *logrus.Entry) (connected bool, err error) {
	conn, err := a.connect(ctx, server)
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends what is below
	count(1)
	defer count(-1)
	log.Info("This server reaches the node through a tunnel")
	return true, a.serve(ctx, conn)
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}
