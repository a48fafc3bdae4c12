package apilb

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// network is a made-up one: servers answer, refuse, or swallow packets.
type network struct {
	mu     sync.Mutex
	state  map[string]string // "" answers, "refuses", "swallows"
	probes map[string][]time.Duration
	start  time.Time
}

var errRefused = errors.New("connection refused")

func (n *network) reach(ctx context.Context, address string) error {
	n.mu.Lock()
	state := n.state[address]
	n.mu.Unlock()
	switch state {
	case "refuses":
		return errRefused
	case "swallows":
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// looks are the times at which a server was looked at.
func (n *network) looks(address string) []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.probes[address])
}

func (n *network) set(address, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state[address] = state
}

// balancer makes one in the made-up network whose first choice is a.
func (n *network) balancer() *Balancer {
	n.state, n.probes, n.start = map[string]string{}, map[string][]time.Duration{}, time.Now()
	b := New(Config{Seed: []string{"seed:1"}}, quiet())
	b.dial = func(ctx context.Context, address string) (net.Conn, error) {
		if err := n.reach(ctx, address); err != nil {
			return nil, err
		}
		c, _ := net.Pipe()
		return named{c, address}, nil
	}
	b.probe = func(ctx context.Context, address string) error {
		n.mu.Lock()
		n.probes[address] = append(n.probes[address], time.Since(n.start))
		n.mu.Unlock()
		return n.reach(ctx, address)
	}
	b.SetServers([]string{"a:1"})
	b.current = b.servers[1]
	b.SetServers([]string{"a:1", "b:1"})
	return b
}

type named struct {
	net.Conn
	address string
}

func dialed(t *testing.T, b *Balancer) (address string, c *conn, took time.Duration) {
	t.Helper()
	began := time.Now()
	got, err := b.DialContext(t.Context(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	return got.(*conn).Conn.(named).address, got.(*conn), time.Since(began)
}

// bubble runs a test with a running balancer in fake time.
func bubble(t *testing.T, f func(t *testing.T, n *network, b *Balancer)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		b := n.balancer()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx, func() {}) }()
		f(t, n, b)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNobodyIsAskedWhileAllAreWell(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		_, c, _ := dialed(t, b)
		time.Sleep(time.Hour)
		c.Close()
		time.Sleep(time.Hour)
		// The one look is for a client that was never told anything.
		if a, b := n.looks("a:1"), n.looks("b:1"); len(a) > 1 || len(b) > 0 {
			t.Errorf("servers were looked at %v and %v", a, b)
		}
	})
}

func TestAServerThatSwallowsPacketsIsOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		n.set("a:1", "swallows")
		if got, _, took := dialed(t, b); got != "b:1" || took != stagger {
			t.Errorf("connected to %s after %v, want b:1 after %v", got, took, stagger)
		}
		if got, _, took := dialed(t, b); got != "b:1" || took != 0 {
			t.Errorf("connected to %s after %v, want b:1 at once: a:1 is known not to answer", got, took)
		}
		n.set("b:1", "swallows")
		if got, _, took := dialed(t, b); got != "seed:1" || took > 2*stagger {
			t.Errorf("connected to %s after %v, want the seed", got, took)
		}
		n.set("seed:1", "swallows")
		began := time.Now()
		if c, err := b.DialContext(t.Context(), "tcp", ""); err == nil || time.Since(began) > 3*stagger+dialTimeout {
			t.Errorf("connected to %v (%v) after %v", c, err, time.Since(began))
		}
	})
}

func TestLooksAtAFailedServerBecomeRare(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		n.set("a:1", "refuses")
		if got, _, took := dialed(t, b); got != "b:1" || took != 0 {
			t.Errorf("connected to %s after %v, want b:1 at once", got, took)
		}
		time.Sleep(10 * time.Minute)
		looks := n.looks("a:1")
		if len(looks) < 10 || len(looks) > 20 {
			t.Errorf("looked %d times in 10 minutes: %v", len(looks), looks)
		}
		if looks[0] < firstRetry/2 || looks[0] > 2*firstRetry {
			t.Errorf("the first look came after %v", looks[0])
		}
		for i, d := range looks[1:] {
			if pause := d - looks[i]; pause > lastRetry*3/2 {
				t.Errorf("%v between looks", pause)
			}
		}
		n.set("a:1", "")
		time.Sleep(2 * lastRetry)
		if b.healthy() != 3 {
			t.Error("the server is back and was not found")
		}
		before := len(n.looks("a:1"))
		time.Sleep(time.Hour)
		if after := len(n.looks("a:1")); after != before {
			t.Errorf("a server that is well was looked at %d times", after-before)
		}
	})
}

func TestConnectionsToADeadServerAreClosed(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		_, watch, _ := dialed(t, b)
		n.set("a:1", "refuses")
		other, healthy, _ := dialed(t, b)
		if other != "b:1" {
			t.Fatalf("connected to %s", other)
		}
		synctest.Wait()
		if err := watch.SetDeadline(time.Time{}); err != nil {
			t.Fatal("one refusal closed a connection: it may be a restart that hands over")
		}
		time.Sleep(3 * time.Second)
		if _, err := watch.Read(make([]byte, 1)); err == nil {
			t.Error("the connection to the dead server is open")
		}
		if err := healthy.SetDeadline(time.Time{}); err != nil {
			t.Errorf("the connection to the healthy server: %v", err)
		}
	})
}

func TestAServerThatLeavesTheList(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		_, watch, _ := dialed(t, b)
		b.SetServers([]string{"b:1"})
		if got, _, _ := dialed(t, b); got != "b:1" {
			t.Errorf("connected to %s, which is not in the list", got)
		}
		time.Sleep(time.Minute)
		if err := watch.SetDeadline(time.Time{}); err != nil {
			t.Error("a connection was closed though its server answers")
		}
		if got := b.known(); !slices.Equal(got, []string{"b:1"}) {
			t.Errorf("the servers are %v", got)
		}
		watch.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.servers) != 2 {
			t.Errorf("%d servers are remembered, want b and the seed", len(b.servers))
		}
	})
}

func TestACallerWhoGivesUpAccusesNobody(t *testing.T) {
	bubble(t, func(t *testing.T, n *network, b *Balancer) {
		n.set("a:1", "swallows")
		ctx, cancel := context.WithTimeout(t.Context(), stagger/2)
		defer cancel()
		if _, err := b.DialContext(ctx, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		synctest.Wait()
		if b.healthy() != 3 {
			t.Error("a server is taken for dead because a client had no patience")
		}
	})
}
