package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/component"
)

// keepBootstrap makes the component that has the datastore and this server hold
// the same keys, so that other servers, and this one after a loss of its disk,
// can start with the datastore and the token alone.
func (p *parts) keepBootstrap(store datastore) component.Component {
	log := p.logs.For("bootstrap")
	return component.Func("bootstrap", func(ctx context.Context, ready func()) error {
		outcome, err := p.syncBootstrap(ctx, store)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case outcome == bootstrap.Taken:
			if err := p.takeKeysOver(ctx); err != nil {
				return fmt.Errorf("taking over what other servers have changed of the cluster's keys: %w", err)
			}
			log.Warn("Other servers have changed the cluster's keys while this one did not run: it uses the new ones")
		case outcome == bootstrap.Kept:
			log.Info("The datastore keeps the cluster's keys, sealed with the server token")
		}
		if store.shared {
			if err := p.noteSettings(ctx, store); err != nil {
				return err
			}
		}
		ready()
		<-ctx.Done()
		return nil
	})
}

func (p *parts) syncBootstrap(ctx context.Context, store datastore) (bootstrap.Outcome, error) {
	client, err := store.client()
	if err != nil {
		return bootstrap.Same, fmt.Errorf("connecting to the datastore for the cluster's keys: %w", err)
	}
	defer client.Close()
	p.syncing.Lock()
	defer p.syncing.Unlock()
	for {
		outcome, err := bootstrap.Sync(ctx, p.cfg.Layout, client, p.tokens.Password())
		if errors.Is(err, bootstrap.ErrToken) {
			if took, noteErr := p.takeNote(ctx, client); took || noteErr != nil {
				if noteErr != nil {
					return outcome, noteErr
				}
				continue
			}
		}
		if !errors.Is(err, bootstrap.ErrConflict) { // of two servers that start at once, one is first
			return outcome, err
		}
	}
}
