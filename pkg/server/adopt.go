package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// adoptKeys gives a server whose disk is empty the keys of the cluster that the
// external datastore holds, before it would make keys of its own. Without such a
// cluster it does nothing.
func (p *parts) adoptKeys(ctx context.Context) error {
	if p.cfg.Datastore.Kind != config.DatastoreExternal {
		return nil
	}
	if _, err := os.Stat(p.files.ServerCA.Cert); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	given, err := token.Read(p.cfg.Join.Token.Reveal(), p.cfg.Join.TokenFile)
	if err != nil {
		return fmt.Errorf("--token: %w", err)
	}
	stored, err := p.storedKeys(ctx)
	switch {
	case err != nil || stored.Revision == 0:
		return err
	case given.Secret() == "":
		return fmt.Errorf("the datastore holds a cluster, and %s has no keys of it: give the token of its servers with --token-file or --token, or name an empty datastore", p.cfg.Layout.Server())
	}
	data, err := bootstrap.Open(given.Secret(), stored.Sealed)
	if err != nil {
		return fmt.Errorf("the cluster's keys in the datastore: %w", err)
	}
	if err := data.Write(p.cfg.Layout); err != nil {
		return err
	}
	p.joined = true
	p.logs.For("bootstrap").Info("Took the cluster's keys from the datastore")
	return bootstrap.Remember(p.cfg.Layout, given.Secret(), data, stored.Sealed)
}

// storedKeys runs the datastore for as long as it takes to read them.
func (p *parts) storedKeys(ctx context.Context) (stored bootstrap.Stored, err error) {
	store, err := p.external()
	if err != nil {
		return stored, err
	}
	running, stop := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- store.Run(running, func() { close(ready) }) }()
	select {
	case <-ready:
		stored, err = p.loadKeys(ctx, store)
	case err = <-ended:
		stop()
		if err == nil { // told to stop while waiting
			err = ctx.Err()
		}
		return stored, err
	}
	stop()
	return stored, errors.Join(err, <-ended)
}

func (p *parts) loadKeys(ctx context.Context, store datastore) (bootstrap.Stored, error) {
	client, err := store.client()
	if err != nil {
		return bootstrap.Stored{}, fmt.Errorf("connecting to the datastore for the cluster's keys: %w", err)
	}
	defer client.Close()
	stored, err := bootstrap.Load(ctx, client)
	if err != nil || stored.Revision == 0 {
		return stored, err
	}
	return stored, p.compareSettings(ctx, client)
}
