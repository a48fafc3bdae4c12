package apilb

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/deadpeer"
)

// checkTimeout bounds one look at a server.
const checkTimeout = 3 * time.Second

// dead is the number of failures in a row after which a server's silent
// connections are closed.
const dead = 2

// watch looks at servers that failed, or may have, until ctx ends. While all
// are well it sleeps.
func (b *Balancer) watch(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.kick:
		case <-timer.C:
		}
		due, wait := b.due(time.Now())
		for _, s := range due {
			wg.Go(func() { b.check(ctx, s) })
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// due takes the servers to look at now, and gives the time until the next; 0
// when there is none.
func (b *Balancer) due(now time.Time) (due []*server, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if s.next.IsZero() || s.checking {
			continue
		}
		if d := s.next.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		s.checking = true
		due = append(due, s)
	}
	return due, wait
}

// check looks at a server and draws the conclusions.
func (b *Balancer) check(ctx context.Context, s *server) {
	probing, cancel := context.WithTimeout(ctx, checkTimeout)
	err := b.probe(probing, s.address)
	cancel()
	if ctx.Err() != nil {
		return
	}
	closeEach(b.conclude(s, err))
}

// conclude returns the connections to close: those of a dead server on which
// nothing has come since it was last known to be alive. One that still carries
// data is healthier than the check and is left alone.
func (b *Balancer) conclude(s *server, err error) (silent []*conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wake()
	s.checking = false
	if err == nil {
		if s.failures > 0 {
			b.log.WithField("server", s.address).Info("A server answers again")
		}
		s.failures, s.next, s.answered = 0, time.Time{}, time.Now()
		return nil
	}
	b.fail(s, err)
	if s.failures < dead {
		return nil
	}
	for c := range s.conns {
		if c.silentSince(s.since) {
			silent = append(silent, c)
		}
	}
	if len(silent) > 0 {
		b.log.WithField("server", s.address).WithField("connections", len(silent)).Warn("Closing connections to a dead server")
	}
	return silent
}

// probeTLS asks for a TLS handshake. A port that only accepts connections is
// not enough: the kernel does that for a server that starts, or hangs. Nothing
// is sent to the server, so it does not matter here whether it is the right one;
// clients find out for themselves.
func probeTLS(ctx context.Context, address string) error {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := deadpeer.Notice(c); err != nil {
		_ = c.Close() // the other error is told
		return nil, err
	}
	return c, nil
}
