// Package election has the controllers of several servers work on one of them
// at a time. A server that loses the lease stops its controllers, cuts their
// connection to the API so that whatever lingers changes nothing any more, and
// goes on as one that waits its turn. The wiring imports it.
package election

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Upstream's times: a leader that is gone without a word is followed after
// leaseDuration, and one that cannot write has stopped by then.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// handOver is how long the end of a server waits for that.
	handOver = 2 * time.Second
)

// LeaseName is the Lease in kube-system that the leader holds, for all of a
// server's controllers.
const LeaseName = "skiff-controllers"

// Elector stands for office, as a component; it is ready when somebody leads.
type Elector struct {
	client   kubernetes.Interface
	identity string
	log      *logrus.Entry

	mu      sync.Mutex
	decided bool
	term    *term
	changed chan struct{} // closed with the next change
}

// term is one time in office.
type term struct{ ctx context.Context }

// New makes the elector. identity has to be another one for each server and
// each start of it.
func New(identity string, client *rest.Config, log *logrus.Entry) (*Elector, error) {
	c, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the election's client: %w", err)
	}
	return &Elector{client: c, identity: identity, log: log, changed: make(chan struct{})}, nil
}

// Name implements component.Component.
func (*Elector) Name() string { return "leader" }

// Run implements component.Component. It hands the office over at its end, by
// which time what depends on it has stopped.
func (e *Elector) Run(ctx context.Context, ready func()) error {
	var once sync.Once
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: LeaseName},
				Client:     e.client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity},
			},
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			ReleaseOnCancel: true,
			Name:            LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { e.set(&term{ctx}) },
				OnStoppedLeading: func() { e.set(nil) },
				OnNewLeader: func(who string) {
					e.decide()
					once.Do(ready)
					if who != e.identity {
						e.log.Infof("%s leads: its controllers work, and ours wait", who)
					}
				},
			},
		})
		if err != nil {
			return fmt.Errorf("standing for election: %w", err)
		}
		if runs(ctx, elector) {
			e.log.Warn("This server does not lead any more: the lease was not renewed in time, or was taken; standing for election again")
		}
	}
	return nil
}

// runs stands for election until the office is lost, which it reports, or ctx
// has ended. A lease that cannot be handed over in time runs out by itself.
func runs(ctx context.Context, elector *leaderelection.LeaderElector) (lost bool) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(ctx)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		select {
		case <-ended:
		case <-time.After(handOver):
		}
	}
	return ctx.Err() == nil
}

func (e *Elector) decide() { e.change(func() { e.decided = true }) }

func (e *Elector) set(t *term) {
	if t != nil && t.ctx.Err() != nil {
		return // it was over before this was called
	}
	if t != nil {
		e.log.Info("This server leads: its controllers work")
	}
	e.change(func() { e.term = t })
}

func (e *Elector) change(how func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	how()
	close(e.changed)
	e.changed = make(chan struct{})
}

// current is the term, nil while this server does not lead, whether anybody
// leads, and what is closed when that changes.
func (e *Elector) current() (t *term, decided bool, changed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t = e.term
	if t != nil && t.ctx.Err() != nil {
		t = nil
	}
	return t, e.decided, e.changed
}

// Fence makes a connection to the API one that ends with the term: requests
// that come later fail.
type Fence func(*rest.Config) *rest.Config

func (t *term) fence(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return fenced{next, t.ctx} })
	return c
}

type fenced struct {
	next http.RoundTripper
	term context.Context
}

// RoundTrip implements http.RoundTripper.
func (f fenced) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.term.Err() != nil {
		return nil, fmt.Errorf("this server does not lead any more: %s %s is not sent", r.Method, r.URL.Path)
	}
	return f.next.RoundTrip(r)
}

// Led makes a component that runs what make makes while this server leads, anew
// for each term. It is ready when that is, or when another server leads.
func (e *Elector) Led(name string, make func(Fence) (component.Component, error), log *logrus.Entry) component.Component {
	return component.Func(name, func(ctx context.Context, ready func()) error {
		tell := sync.OnceFunc(ready)
		for {
			t, decided, changed := e.current()
			if t != nil {
				if err := serve(ctx, t, make, tell, log); err != nil || ctx.Err() != nil {
					return err
				}
				continue
			}
			if decided {
				tell()
			}
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
		}
	})
}

func serve(ctx context.Context, t *term, make func(Fence) (component.Component, error), ready func(), log *logrus.Entry) error {
	c, err := make(t.fence)
	if err != nil {
		return err
	}
	serving, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(t.ctx, end)()
	err = c.Run(serving, ready)
	switch {
	case ctx.Err() != nil:
		return err
	case t.ctx.Err() != nil:
		if err != nil { // what lingers is fenced off
			log.WithError(err).Warn("It did not stop cleanly when the term ended")
		}
		return nil
	case err == nil:
		return fmt.Errorf("%s ended by itself", c.Name())
	}
	return err
}
