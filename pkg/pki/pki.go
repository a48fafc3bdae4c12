// Package pki makes and keeps the cluster's keys and certificates: three CAs
// and a service-account key that are made once, the certificates signed by
// them, and the kubeconfigs that carry them. Apart from files below the layout
// it touches nothing and talks to nobody; the wiring packages and components
// of layer 2 and above may import it.
//
// Ensure is idempotent: it writes what is missing, about to expire or no
// longer right, and nothing else. The Renewer calls it again while the process
// runs, so nothing has to be restarted for a new certificate.
package pki

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// minRenewInterval keeps certificates that are due for good, those of a CA in
// its last days, from being looked at all the time.
const minRenewInterval = 6 * time.Hour

// Config says what certificates the process keeps. Server is nil on an agent
// and Node is nil on a server without a node part.
type Config struct {
	Server *ServerConfig
	Node   *NodeConfig
}

// Certificates is what Ensure found or made. It never changes, but for Serving.
type Certificates struct {
	Authorities *Authorities
	// Serving is the API server's certificate for TLS listeners of ours. It
	// is nil without a server part.
	Serving *CertSource
	// Due is when the first of the certificates is to be issued anew.
	Due time.Time
	// Expires is when the first of the CAs expires.
	Expires time.Time
	// Born is when the server CA was made, and with it the cluster.
	Born time.Time

	current atomic.Pointer[Authorities]
}

// Current are the CAs as they are now; Authorities are those of the start. It
// may be called by any goroutine while the Renewer runs.
func (c *Certificates) Current() *Authorities { return c.current.Load() }

// Ensure makes everything that cfg asks for valid at the time now. It logs what
// it has made, and why. The error is a *ClockError
// when now cannot be right; see WaitForClock. Calls must not overlap.
func Ensure(cfg Config, now time.Time, log *logrus.Entry) (*Certificates, error) {
	return ensureAnew(cfg, now, nil, log)
}

// ensureAnew is Ensure that issues some certificates anew though they are good.
func ensureAnew(cfg Config, now time.Time, anew []CertKey, log *logrus.Entry) (*Certificates, error) {
	if cfg.Server == nil {
		return nil, errors.New("pki: certificates of a node without a server are issued by its server")
	}
	l := cfg.Server.Layout
	if err := makeDirs(l.Data, l.TLS()); err != nil {
		return nil, err
	}
	made := &journal{log: log}
	defer made.report()
	if err := FinishRotation(l); err != nil {
		return nil, err
	}
	if cfg.Server.Etcd {
		if err := makeDirs(l.Data, l.TLSFile("etcd")); err != nil {
			return nil, err
		}
	}
	authorities, err := ensureAuthorities(*cfg.Server, now, made)
	if err != nil {
		return nil, err
	}
	k := &keeper{now: now, made: made, anew: anew}
	serving := cfg.Server.keep(k, authorities)
	if cfg.Node != nil {
		if err := makeDirs(cfg.Node.Layout.Data, cfg.Node.Layout.Agent()); err != nil {
			return nil, err
		}
		cfg.Node.keep(k, authorities)
	}
	if err := k.wait(); err != nil {
		return nil, err
	}
	source := &CertSource{}
	if err := source.load(*serving); err != nil {
		return nil, err
	}
	certs := &Certificates{
		Authorities: authorities,
		Serving:     source,
		Due:         later(k.due, now.Add(minRenewInterval)),
		Expires:     authorities.expires(),
		Born:        authorities.Server.Cert.NotBefore.Add(caBackdate),
	}
	certs.current.Store(authorities)
	return certs, nil
}

// keeper runs the upkeep of many files at once, because most of the time goes
// into waiting for the disk, and gathers what came of it.
type keeper struct {
	now  time.Time
	made *journal
	anew []CertKey // to be issued though they are good

	wg   sync.WaitGroup
	mu   sync.Mutex
	due  time.Time
	errs []error
}

func (k *keeper) spawn(keep func() error) {
	k.wg.Go(func() {
		if err := keep(); err != nil {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.errs = append(k.errs, err)
		}
	})
}

// leaf keeps one certificate; then, if not nil, runs with the valid pair.
func (k *keeper) leaf(ca *Authority, spec Leaf, files CertKey, then func(pair) error) {
	k.spawn(func() error {
		p, err := keepLeaf(ca, spec, files, k.now, slices.Contains(k.anew, files), k.made)
		if err != nil {
			return err
		}
		k.mu.Lock()
		if due := renewAt(p.cert); k.due.IsZero() || due.Before(k.due) {
			k.due = due
		}
		k.mu.Unlock()
		if then == nil {
			return nil
		}
		return then(p)
	})
}

func (k *keeper) wait() error {
	k.wg.Wait()
	return errors.Join(k.errs...)
}

// makeDirs makes a directory for secrets, root's alone, below the data
// directory, into which others may look.
func makeDirs(data, secrets string) error {
	err := os.MkdirAll(data, 0o755)
	if err == nil {
		err = os.MkdirAll(secrets, 0o700)
	}
	if err != nil {
		return fmt.Errorf("making the directory %s for certificates: %w", secrets, err)
	}
	return nil
}
