package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	mdns "github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// stopTimeout bounds how long answers under way may delay the stop.
const stopTimeout = 900 * time.Millisecond

// server runs CoreDNS by Caddy: one instance at a time, replaced for a new
// Corefile without closing the sockets. Its methods are called by one goroutine.
type server struct {
	cfg       Config
	log       *logrus.Entry
	path      string // how Caddy's messages call the Corefile
	cluster   *cluster
	nodes     *nodes
	addresses *addresses

	instance *caddy.Instance // nil before the first apply
	text     string          // what instance runs with
}

// apply makes CoreDNS run with s. When it fails, it goes on as before.
func (s *server) apply(ctx context.Context, set settings) error {
	text := set.render()
	if text == s.text {
		return nil
	}
	in := &corefile{text: text, owner: s}
	type result struct {
		instance *caddy.Instance
		err      error
	}
	done := make(chan result, 1)
	old := s.instance
	go func() {
		instance, err := replace(old, in)
		done <- result{instance, err}
	}()
	// Caddy waits some seconds for answers under way of the old instance. A
	// stop of the process does not.
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select {
		case r = <-done:
		case <-time.After(stopTimeout):
			return nil
		}
	}
	if r.err != nil {
		return r.err
	}
	s.instance, s.text = r.instance, text
	s.awaitServing(ctx)
	return nil
}

// awaitServing returns when every socket answers. Caddy returns when they are
// open; an instance that is stopped before it serves would keep its sockets and
// begin to answer later, beside its successor.
func (s *server) awaitServing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for _, listener := range s.instance.Servers() {
		for _, addr := range []net.Addr{listener.Addr(), listener.LocalAddr()} {
			if addr == nil {
				continue
			}
			group.Go(func() {
				// A query without a question is answered by the server itself.
				client := &mdns.Client{Net: addr.Network()}
				if _, _, err := client.ExchangeContext(ctx, new(mdns.Msg), addr.String()); err != nil && ctx.Err() == nil {
					s.log.WithError(err).Warnf("DNS at %s (%s) does not answer the node itself: is there a firewall on the loopback interface?", addr, addr.Network())
				}
			})
		}
	}
	group.Wait()
}

func replace(old *caddy.Instance, in *corefile) (instance *caddy.Instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in CoreDNS: %v", p)
		}
	}()
	if old == nil {
		return caddy.Start(in)
	}
	instance, err = old.Restart(in)
	if err == nil && (instance == nil || instance == old) {
		return nil, errors.New("panic in CoreDNS, see the log") // Restart swallows panics
	}
	return instance, err
}

// stop ends serving. Answers under way get a moment.
func (s *server) stop() {
	if s.instance == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.instance.Stop(); err != nil {
			s.log.WithError(err).Warn("Stopping CoreDNS failed")
		}
		for _, err := range s.instance.ShutdownCallbacks() {
			s.log.WithError(err).Warn("Stopping a CoreDNS plugin failed")
		}
	}()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		s.log.Info("Stopped with DNS queries still waiting for their answer")
	}
}

// explain turns the error of a socket that could not be opened into one that
// says what to do; others stay as they are. setting names what to change.
func explain(err error, addr netip.Addr, setting string) error {
	if err == nil || !isInUse(err) {
		return err
	}
	return fmt.Errorf("port %d of %s, where DNS has to be served, is taken by %s: stop it, keep it from listening on all addresses, or %s",
		port, addr, portOwner(port), setting)
}

// isInUse also looks at the text, because Caddy does not wrap errors.
func isInUse(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || strings.Contains(err.Error(), unix.EADDRINUSE.Error())
}
