package apilb

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// role is why a server is known.
type role int

const (
	listed  role = iota // it is in the list
	seed                // it was named with --server and is not in the list
	leaving             // it was in the list and still has connections
)

// server is one API server. The Balancer's lock guards everything.
type server struct {
	address string
	role    role
	conns   map[*conn]struct{}

	failures int       // in a row; 0 for a server that answers
	since    time.Time // of the first of them
	next     time.Time // when to look at it; zero for never
	checking bool
	answered time.Time // when a look last found it well
}

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// fresh is how long a good answer is believed.
	fresh = 5 * time.Second
)

// errSlow is what a server did that was overtaken by another.
var errSlow = fmt.Errorf("no answer within %v", stagger)

// setRoles makes list the list. Servers that were known before keep what is
// known of them, in their order; new ones come in any order, so that the agents
// of a cluster spread over its servers.
func (b *Balancer) setRoles(list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wake()
	for _, s := range b.servers {
		switch {
		case slices.Contains(list, s.address):
			s.role = listed
		case slices.Contains(b.cfg.Seed, s.address):
			s.role = seed
		case s.role != leaving:
			s.role = leaving
			s.next = time.Now()
		}
	}
	for _, i := range rand.Perm(len(list)) {
		b.add(list[i], listed)
	}
	for _, address := range b.cfg.Seed {
		b.add(address, seed)
	}
	b.prune()
}

func (b *Balancer) add(address string, r role) {
	if slices.ContainsFunc(b.servers, func(s *server) bool { return s.address == address }) {
		return
	}
	b.servers = append(b.servers, &server{address: address, role: r, conns: map[*conn]struct{}{}})
}

// prune forgets servers that left the list and have no connections any more.
func (b *Balancer) prune() {
	b.servers = slices.DeleteFunc(b.servers, func(s *server) bool { return s.role == leaving && len(s.conns) == 0 })
	if !slices.Contains(b.servers, b.current) {
		b.current = nil
	}
}

// candidates are the servers to try, best first: those that answer before
// those that do not, those of the list before the seed, and among equals the
// one in use, so that nothing moves without need.
func (b *Balancer) candidates() []*server {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(b.servers), func(s *server) bool { return s.role == leaving })
	slices.SortStableFunc(all, func(x, y *server) int {
		return cmp.Or(
			cmp.Compare(min(x.failures, 1), min(y.failures, 1)),
			cmp.Compare(x.role, y.role),
			preferred(x == b.current, y == b.current),
			cmp.Compare(x.failures, y.failures),
		)
	})
	return all
}

func preferred(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// adopt registers a new connection to s.
func (b *Balancer) adopt(s *server, c net.Conn) *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != s {
		b.log.WithField("server", s.address).Info("Using this server for the API")
		b.current = s
	}
	tracked := &conn{Conn: c, balancer: b, server: s, opened: time.Now()}
	s.conns[tracked] = struct{}{}
	return tracked
}

// drop forgets a connection.
func (b *Balancer) drop(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(c.server.conns, c)
	b.prune()
}

// overtaken notes that servers had not answered when a later one did.
func (b *Balancer) overtaken(by *server, slow []*server) {
	for _, s := range slow {
		if s != by {
			b.failed(s, errSlow)
		}
	}
}

// failed notes that connecting to s failed. From then on others are preferred
// until a check finds it well.
func (b *Balancer) failed(s *server, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.failures > 0 {
		return // it is being looked after
	}
	b.fail(s, err)
}

func (b *Balancer) fail(s *server, err error) {
	now := time.Now()
	if s.failures == 0 {
		s.since = now
		b.log.WithField("server", s.address).WithError(err).Warn("A server does not answer")
	}
	s.failures++
	s.next = now.Add(retryAfter(s.failures))
	b.wake()
}

// retryAfter grows to a minute and is spread, so that the agents of a cluster
// do not all come at once.
func retryAfter(failures int) time.Duration {
	d := lastRetry
	if failures < 7 {
		d = min(firstRetry<<(failures-1), lastRetry)
	}
	return d*3/4 + rand.N(d/2)
}

// suspect has s looked at now because something odd happened to a connection.
func (b *Balancer) suspect(s *server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.failures > 0 || s.checking || time.Since(s.answered) < fresh {
		return
	}
	s.next = time.Now()
	b.wake()
}

func (b *Balancer) wake() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// closeAll ends all connections.
func (b *Balancer) closeAll() {
	b.mu.Lock()
	var all []*conn
	for _, s := range b.servers {
		for c := range s.conns {
			all = append(all, c)
		}
	}
	b.mu.Unlock()
	closeEach(all)
}

func closeEach(all []*conn) {
	for _, c := range all {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.balancer.log.WithError(err).Debug("Closing a connection failed")
		}
	}
}
