package pki

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

const (
	// retryFirst and retryMost bound how soon a failed renewal, of which a
	// third of the lifetime is left to succeed, is tried again.
	retryFirst = time.Minute
	retryMost  = time.Hour
	// caWarning is how long before its end an expiring CA is spoken of.
	caWarning = 180 * 24 * time.Hour
)

// Addresses are what may change about a host while the process runs.
type Addresses struct {
	// Server and Node become ServerConfig.Addresses and NodeConfig.Addresses.
	Server []netip.Addr
	Node   []netip.Addr
}

// Renewer keeps certificates valid while the process runs: it sleeps until one
// is due, the clock is set, or addresses change, and then calls Ensure again.
type Renewer struct {
	cfg   Config
	certs *Certificates
	clock clock
	log   *logrus.Entry

	orders  chan order
	changed chan struct{} // holds one token while pending is news
	mu      sync.Mutex
	pending *Addresses
}

var _ component.Component = (*Renewer)(nil)

// NewRenewer makes the component that keeps certs, which Ensure made of cfg,
// valid. It replaces what certs.Serving hands out.
func NewRenewer(cfg Config, certs *Certificates, log *logrus.Entry) *Renewer {
	return &Renewer{cfg: cfg, certs: certs, clock: systemClock{}, log: log, changed: make(chan struct{}, 1), orders: make(chan order)}
}

// order is what somebody wants done now.
type order struct {
	before func(now time.Time) error // nil: nothing
	anew   []CertKey
	done   chan<- error // has room for one
}

// Rotate issues the certificates of some services anew, or without any of all,
// and returns when they are in use.
func (r *Renewer) Rotate(ctx context.Context, services []string) error {
	files, err := filesOf(r.cfg.Server.Layout, services)
	if err != nil {
		return err
	}
	return r.ask(ctx, order{anew: files})
}

// Refresh looks at all files again, which others may have changed.
func (r *Renewer) Refresh(ctx context.Context) error { return r.ask(ctx, order{}) }

// RotateCA replaces CAs as the function RotateCA does, and issues certificates
// of the new ones. The result names what was replaced.
func (r *Renewer) RotateCA(ctx context.Context, set CASet, force bool) (names []string, err error) {
	err = r.ask(ctx, order{before: func(now time.Time) (err error) {
		names, err = RotateCA(r.cfg.Server.Layout, set, force, now)
		return err
	}})
	return names, err
}

func (r *Renewer) ask(ctx context.Context, o order) error {
	done := make(chan error, 1)
	o.done = done
	select {
	case r.orders <- o:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return <-done // which is soon: there is nothing in it to wait for
}

// Name is the component's name.
func (r *Renewer) Name() string { return "certificates" }

// SetAddresses tells the renewer of new addresses. It does not block, may be
// called by any goroutine at any time, and the last call counts.
func (r *Renewer) SetAddresses(a Addresses) {
	r.mu.Lock()
	r.pending = &a
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run renews until ctx ends. A renewal that fails is logged and tried again.
func (r *Renewer) Run(ctx context.Context, ready func()) error {
	ready()
	r.warnOfCA()
	next, retry := r.certs.Due, retryFirst
	for {
		wanted, alive := r.sleep(ctx, next)
		if !alive {
			return nil
		}
		certs, err := r.renew(wanted)
		switch {
		case err == nil:
			next, retry = certs.Due, retryFirst
			r.warnOfCA()
		case isBehind(err, &next):
			// Certificates are kept as they are until the clock is right.
			r.log.WithError(err).Warn("Waiting for the clock")
		default:
			r.log.WithError(err).Error("Renewing certificates failed, will try again")
			next = r.clock.now().Add(retry)
			retry = min(2*retry, retryMost)
		}
		if wanted.done != nil {
			wanted.done <- err
		}
	}
}

func (r *Renewer) renew(wanted order) (*Certificates, error) {
	r.takeAddresses()
	now := r.clock.now()
	if wanted.before != nil {
		if err := wanted.before(now); err != nil {
			return nil, err
		}
	}
	certs, err := ensureAnew(r.cfg, now, wanted.anew, r.log)
	if err != nil {
		return nil, err
	}
	r.certs.Serving.replace(certs.Serving)
	r.certs.current.Store(certs.Authorities)
	r.certs.Expires = certs.Expires
	return certs, nil
}

// sleep ends when there is something to do: a date, a set clock, addresses, an
// order. alive says that ctx has not ended.
func (r *Renewer) sleep(ctx context.Context, until time.Time) (wanted order, alive bool) {
	sleeping, wake := context.WithCancel(ctx)
	defer wake()
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		// Its one error is that sleeping ended.
		_ = r.clock.waitUntil(sleeping, until)
	}()
	select {
	case <-slept:
	case <-r.changed:
	case wanted = <-r.orders:
	}
	wake()
	<-slept
	return wanted, wanted.done != nil || ctx.Err() == nil
}

// takeAddresses changes copies, because the configuration is the wiring's.
func (r *Renewer) takeAddresses() {
	r.mu.Lock()
	pending := r.pending
	r.pending = nil
	r.mu.Unlock()
	if pending == nil {
		return
	}
	if r.cfg.Server != nil {
		server := *r.cfg.Server
		server.Addresses = slices.Clone(pending.Server)
		r.cfg.Server = &server
	}
	if r.cfg.Node != nil {
		node := *r.cfg.Node
		node.Addresses = slices.Clone(pending.Node)
		r.cfg.Node = &node
	}
}

func (r *Renewer) warnOfCA() {
	left := r.certs.Expires.Sub(r.clock.now())
	if left < caWarning {
		r.log.Warnf("A CA expires in %d days, at %s: replace it before", int(left.Hours()/24), r.certs.Expires.Format(time.RFC3339))
	}
}

// isBehind takes from a ClockError when to look again.
func isBehind(err error, next *time.Time) bool {
	var behind *ClockError
	if !errors.As(err, &behind) {
		return false
	}
	*next = behind.NotBefore
	return true
}
