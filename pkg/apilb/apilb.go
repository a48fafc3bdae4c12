// Package apilb is an agent's load balancer in front of the API servers: it
// passes TCP connections through to one of them and moves to another when that
// one fails. Clients of the process dial through it directly, others come by a
// port on the loopback interface. It is imported by the wiring only.
package apilb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// Config says where to listen and which servers there are.
type Config struct {
	// Listen is where others than this process are served; without a port
	// nothing listens.
	Listen netip.AddrPort
	// File keeps the list of servers, so that a restart finds one even if
	// Seed is gone. "" keeps it nowhere.
	File string
	// Seed are the servers ("host:port") to begin with. Later they are used
	// when no server of the list can be reached.
	Seed []string
}

const (
	// dialTimeout bounds one attempt to connect to a server.
	dialTimeout = 5 * time.Second
	// stagger is the time after which the next server is tried beside one
	// that does not answer. It leaves room for one lost packet.
	stagger = 2 * time.Second
)

// Balancer is the load balancer. It is a component; DialContext and SetServers
// work before Run, too. All methods are safe for concurrent use.
type Balancer struct {
	cfg   Config
	log   *logrus.Entry
	dial  func(ctx context.Context, address string) (net.Conn, error)
	probe func(ctx context.Context, address string) error
	kick  chan struct{} // there may be something to check

	keeping sync.Mutex // orders what is written to the file

	mu      sync.Mutex
	servers []*server
	current *server // nil before the first connection
}

// New makes the load balancer with the servers of the file, if there is one
// that can be used, and of the seed.
func New(cfg Config, log *logrus.Entry) *Balancer {
	b := &Balancer{cfg: cfg, log: log, dial: dialTCP, probe: probeTLS, kick: make(chan struct{}, 1)}
	list, err := readList(cfg.File)
	if err != nil {
		log.WithError(err).Warn("The list of servers can't be read; it will be asked for again from those of --server")
	}
	b.setRoles(list)
	return b
}

// Name implements component.Component.
func (*Balancer) Name() string { return "apilb" }

// Run implements component.Component. It is ready when it listens. All
// connections end with it.
func (b *Balancer) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer b.closeAll()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { b.watch(ctx) })
	if b.cfg.Listen.Port() == 0 {
		ready()
		<-ctx.Done()
		return nil
	}
	l, err := listen(b.cfg.Listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	ready()
	return b.serve(ctx, l)
}

func listen(at netip.AddrPort) (*net.TCPListener, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use by another process, so the API can't be offered on %s: stop that process (`ss -tlnp 'sport = :%d'` names it), choose another port with --lb-server-port, or do without with --disable-apiserver-lb", at.Port(), at, at.Port())
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s for clients of the API: %w", at, err)
	}
	return l, nil
}

// SetServers replaces the list of servers ("host:port") and keeps it on disk.
// An empty list changes nothing. Connections to servers that are no longer in
// it go on while those answer.
func (b *Balancer) SetServers(list []string) {
	list = b.valid(list)
	if len(list) == 0 {
		return
	}
	b.keeping.Lock()
	defer b.keeping.Unlock()
	b.setRoles(list)
	if err := writeList(b.cfg.File, list); err != nil {
		b.log.WithError(err).Error("The list of servers could not be kept; until it is, a restart of this agent needs the server of --server")
	}
}

// DialContext connects to a server, whatever the address says. It has the
// signature that clients of the API want for their transport.
func (b *Balancer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return b.connect(ctx)
}

type attempt struct {
	server *server
	conn   net.Conn
	err    error
}

// connect tries the servers in the order of preference; one that does not
// answer soon is raced by the next.
func (b *Balancer) connect(ctx context.Context) (*conn, error) {
	candidates := b.candidates()
	if len(candidates) == 0 {
		return nil, errors.New("no server is known: name one with --server")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(candidates))
	var pending []*server // attempts whose result has not come
	var failures []error
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { go discard(results, len(pending)) }()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to a server: %w", errors.Join(append(failures, context.Cause(ctx))...))
		case <-timer.C:
			if len(candidates) > 0 {
				pending = append(pending, candidates[0])
				go b.try(ctx, candidates[0], results)
				candidates = candidates[1:]
				timer.Reset(stagger)
			}
		case r := <-results:
			pending = slices.DeleteFunc(pending, func(s *server) bool { return s == r.server })
			if r.err == nil {
				b.overtaken(r.server, pending)
				return b.adopt(r.server, r.conn), nil
			}
			failures = append(failures, r.err)
			if ctx.Err() != nil {
				continue // that is why
			}
			b.failed(r.server, r.err)
			if len(pending) == 0 && len(candidates) == 0 {
				return nil, fmt.Errorf("no server can be reached: %w", errors.Join(failures...))
			}
			timer.Reset(0)
		}
	}
}

func (b *Balancer) try(ctx context.Context, s *server, results chan<- attempt) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := b.dial(ctx, s.address)
	results <- attempt{s, c, err}
}

// discard closes what arrives after another server was chosen.
func discard(results <-chan attempt, n int) {
	for range n {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close() // nobody has used it
		}
	}
}
