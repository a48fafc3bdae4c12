package encryption

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/keyring"
)

// loadedKeys is below which each server says, under its name, the hash of the
// ring that it uses.
const loadedKeys = "/skiff/encryption/"

const (
	// agreeInterval is the time between looks at what other servers say.
	agreeInterval = 300 * time.Millisecond
	// agreeTimeout is how long they are waited for before that is a problem to
	// be told of. It is then waited for again.
	agreeTimeout = 20 * time.Second
	// watchInterval is the time between looks whether the server that carries
	// out a change is still there.
	watchInterval = 5 * time.Second
)

// Take uses the ring on disk, which another server has changed.
func (c *Controller) Take(ctx context.Context) error {
	ring, err := keyring.Read(c.cfg.Layout)
	if err != nil {
		return err
	}
	// The API server's file is made from it.
	if err := keyring.Save(c.cfg.Layout, ring); err != nil {
		return err
	}
	c.mu.Lock()
	c.ring = ring
	c.mu.Unlock()
	c.wake()
	return c.use(ctx, ring)
}

// use has this server's API server use a ring, and says so.
func (c *Controller) use(ctx context.Context, ring keyring.Ring) error {
	if err := c.cfg.Reload(ctx); err != nil {
		return err
	}
	return c.tell(ctx, ring)
}

func (c *Controller) tell(ctx context.Context, ring keyring.Ring) error {
	if c.cfg.Peers == nil {
		return nil
	}
	hash, err := ring.Hash()
	if err != nil {
		return err
	}
	client, err := c.cfg.Values.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	return bootstrap.Put(ctx, client, loadedKeys+c.cfg.Server, []byte(hash))
}

// loaded is what each server that serves has said; "" stands for nothing yet.
func (c *Controller) loaded(ctx context.Context, ring keyring.Ring) (map[string]string, error) {
	if c.cfg.Peers == nil {
		hash, err := ring.Hash()
		return map[string]string{c.cfg.Server: hash}, err
	}
	client, err := c.cfg.Values.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	said := map[string]string{}
	for _, name := range c.cfg.Peers() {
		r, err := client.KV.Get(ctx, loadedKeys+name)
		if err != nil {
			return nil, fmt.Errorf("reading which keys %s has: %w", name, err)
		}
		said[name] = ""
		if len(r.Kvs) > 0 {
			said[name] = string(r.Kvs[0].Value)
		}
	}
	return said, nil
}

// agree waits until every server that serves uses the ring.
func (c *Controller) agree(ctx context.Context, ring keyring.Ring) error {
	if c.cfg.Peers == nil {
		return nil
	}
	want, err := ring.Hash()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTimeout)
	defer cancel()
	for {
		said, err := c.loaded(ctx, ring)
		if err != nil {
			return err
		}
		var behind []string
		for name, hash := range said {
			if hash != want {
				behind = append(behind, name)
			}
		}
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-time.After(agreeInterval):
		case <-ctx.Done():
			slices.Sort(behind)
			return fmt.Errorf("not all servers have loaded the keys of this step: waiting for %s", strings.Join(behind, ", "))
		}
	}
}

// mine says whether this server has to carry out a change: one that it began,
// or that of a server which is gone.
func (c *Controller) mine(op *keyring.Operation) bool {
	if c.cfg.Peers == nil || op.Server == "" || op.Server == c.cfg.Server {
		return true
	}
	peers := c.cfg.Peers()
	slices.Sort(peers)
	return len(peers) > 0 && !slices.Contains(peers, op.Server) && peers[0] == c.cfg.Server
}

// rest waits for something to do.
func (c *Controller) rest(ctx context.Context, others bool) {
	var look <-chan time.Time
	if others {
		timer := time.NewTimer(watchInterval)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-c.changed:
	case <-look:
	case <-ctx.Done():
	}
}

func (c *Controller) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}
