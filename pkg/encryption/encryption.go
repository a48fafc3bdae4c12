// Package encryption changes how Secrets are encrypted in the datastore while
// the cluster runs: it makes keys, has the API server use them, and has every
// Secret written anew. Only the wiring imports it. The keys themselves are
// pkg/keyring's.
//
// A change is a row of steps that are kept before they are carried out, each of
// which may be repeated. Which Secrets are left is read from the datastore and
// not counted, so that a change that was cut short goes on where it was, and
// ends when, and only when, nothing is stored in another way.
package encryption

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/keyring"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Config is what the component is told.
type Config struct {
	Layout layout.Layout
	// Ring is what keyring.Open gave.
	Ring keyring.Ring
	// Provider is for keys that are made from now on.
	Provider string
	// Server is this server's name.
	Server string
	// Publish has the datastore keep the ring on disk, so that no key is used
	// that would be lost with this server.
	Publish func(context.Context) error
	// Reload has this process' API server use the ring on disk. It returns when
	// no write by the ring before is under way.
	Reload func(context.Context) error
	// Peers are the names of all servers that serve now, this one among them;
	// nil: there is no other.
	Peers func() []string
	// Values reads what is stored of all Secrets; see Values.
	Values Values
	// Elsewhere, if not empty, says why the encryption is not Skiff's business.
	Elsewhere string
}

const (
	// retryFirst and retryMost bound how soon a step that failed is tried again.
	retryFirst = time.Second
	retryMost  = time.Minute
)

// Controller is the component.
type Controller struct {
	cfg    Config
	client kubernetes.Interface
	log    *logrus.Entry

	changed chan struct{} // holds one token while there may be something to do

	mu      sync.Mutex
	ring    keyring.Ring
	problem string // what holds up the operation
}

var _ component.Component = (*Controller)(nil)

// New makes the component. client needs what Rules say.
func New(cfg Config, client *rest.Config, log *logrus.Entry) (*Controller, error) {
	c, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the client that encrypts Secrets: %w", err)
	}
	return &Controller{cfg: cfg, client: c, log: log, changed: make(chan struct{}, 1), ring: cfg.Ring}, nil
}

// Rules are what the client needs in the whole cluster.
func Rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"patch"}}}
}

// Name implements component.Component.
func (c *Controller) Name() string { return "secrets-encryption" }

// Run implements component.Component.
func (c *Controller) Run(ctx context.Context, ready func()) error {
	if err := c.tell(ctx, c.current()); err != nil {
		c.log.WithError(err).Warn("The other servers do not know which keys this one has")
	}
	ready()
	retry := retryFirst
	for ctx.Err() == nil {
		ring := c.current()
		if ring.Operation == nil || !c.mine(ring.Operation) {
			c.rest(ctx, ring.Operation != nil)
			continue
		}
		err := c.step(ctx, ring)
		if ctx.Err() != nil {
			return nil
		}
		c.note(err)
		if err == nil {
			retry = retryFirst
			continue
		}
		c.log.WithError(err).Warnf("%s of the encryption of Secrets is held up, will try again in %s", ring.Operation.Kind, retry)
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
		retry = min(2*retry, retryMost)
	}
	return nil
}

// step carries out the step that the ring is at and goes to the next.
func (c *Controller) step(ctx context.Context, ring keyring.Ring) error {
	op := ring.Operation
	if err := c.cfg.Publish(ctx); err != nil {
		return err
	}
	if err := c.use(ctx, ring); err != nil {
		return err
	}
	if err := c.agree(ctx, ring); err != nil {
		return err
	}
	if op.Step == keyring.Rewrite {
		c.log.Infof("Writing all Secrets anew for %s", op.Kind)
		count, err := c.rewrite(ctx, ring)
		if err != nil {
			return err
		}
		// A server that has come meanwhile may have written with what was.
		if err := c.agree(ctx, ring); err != nil {
			return err
		}
		if more, err := c.rewrite(ctx, ring); err != nil || more > 0 {
			return err // and once more
		}
		c.log.Infof("Wrote %d Secrets anew for %s", count, op.Kind)
	}
	next := ring.Advance()
	if err := c.keep(next); err != nil {
		return err
	}
	if next.Operation == nil {
		if err := c.cfg.Publish(ctx); err != nil {
			c.log.WithError(err).Warn("The other servers do not know yet that the change is finished")
		}
		c.log.Infof("Finished %s of the encryption of Secrets", op.Kind)
	}
	return nil
}

// Begin begins a change, which Run carries out. Of two servers that begin one
// at the same time, one fails and has changed nothing.
func (c *Controller) Begin(ctx context.Context, kind keyring.Kind) error {
	if c.cfg.Elsewhere != "" {
		return errors.New(c.cfg.Elsewhere)
	}
	if err := c.cfg.Publish(ctx); err != nil { // what others have changed comes first
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, err := keyring.Read(c.cfg.Layout)
	if err != nil {
		return err
	}
	next, err := before.Begin(kind, c.cfg.Provider, time.Now())
	if err != nil {
		return err
	}
	next.Operation.Server = c.cfg.Server
	if err := keyring.Save(c.cfg.Layout, next); err != nil {
		return err
	}
	if err := c.cfg.Publish(ctx); err != nil {
		return errors.Join(err, keyring.Save(c.cfg.Layout, before))
	}
	c.ring, c.problem = next, ""
	c.log.Infof("Beginning %s of the encryption of Secrets", kind)
	c.wake()
	return nil
}

func (c *Controller) current() keyring.Ring {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring
}

func (c *Controller) keep(next keyring.Ring) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := keyring.Save(c.cfg.Layout, next); err != nil {
		return err
	}
	c.ring = next
	return nil
}

func (c *Controller) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problem = ""
	if err != nil {
		c.problem = err.Error()
	}
}
