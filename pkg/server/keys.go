package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/bootstrap"
	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/encryption"
	"github.com/skiff-k8s/skiff/pkg/joinapi"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// serversSecret is known to all servers and to nobody who has a token alone.
func (p *parts) serversSecret() (string, error) {
	key, err := os.ReadFile(p.files.ServiceAccountKey)
	if err != nil {
		return "", fmt.Errorf("reading what all servers have: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("skiff: a note among servers"))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// rotateToken replaces a token for all servers. The order makes each moment
// one to start from: first the note, from which other servers learn the new
// token; then this server's disk, which decides; then the seal of the keys in
// the datastore, which a start does again when it finds another token.
func (p *parts) rotateToken(store datastore) func(context.Context, token.Token, bool) (token.Token, error) {
	return func(ctx context.Context, next token.Token, agent bool) (full token.Token, err error) {
		if agent {
			full, err = p.tokens.RotateAgent(next)
		} else if err = p.leaveNote(ctx, store, next); err == nil {
			full, err = p.tokens.Rotate(next)
		}
		if err != nil {
			return full, err
		}
		if _, err := p.syncBootstrap(ctx, store); err != nil {
			return full, fmt.Errorf("it holds on this server, and the datastore's copy of the cluster's keys does not know of it yet; restart this server: %w", err)
		}
		return full, nil
	}
}

func (p *parts) leaveNote(ctx context.Context, store datastore, next token.Token) error {
	if !store.shared {
		return nil
	}
	secret, err := p.serversSecret()
	if err != nil {
		return err
	}
	note, err := bootstrap.SealText(secret, next.Secret())
	if err != nil {
		return err
	}
	client, err := store.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return bootstrap.Put(ctx, client, bootstrap.NoteKey, note)
}

// takeNote takes over the server token that another server has left a note of,
// and says whether there was one.
func (p *parts) takeNote(ctx context.Context, kv bootstrap.KV) (bool, error) {
	secret, err := p.serversSecret()
	if err != nil {
		return false, err
	}
	r, err := kv.Get(ctx, bootstrap.NoteKey)
	if err != nil || len(r.Kvs) == 0 {
		return false, err
	}
	text, err := bootstrap.OpenText(secret, r.Kvs[0].Value)
	if err != nil || text == p.tokens.Password() {
		return false, nil // it is of another time
	}
	next, err := token.Parse(text)
	if err != nil {
		return false, fmt.Errorf("the new token that another server has left: %w", err)
	}
	if _, err := p.tokens.Rotate(next); err != nil {
		return false, err
	}
	p.logs.For("bootstrap").Warn("Another server has replaced the server token: it is on the disk here, too")
	return true, nil
}

// followKeys makes the component that takes over what other servers change of
// the cluster's keys while this one runs.
func (p *parts) followKeys(store datastore) component.Component {
	log := p.logs.For("bootstrap")
	return component.Func("keys", func(ctx context.Context, ready func()) error {
		ready()
		for ctx.Err() == nil {
			err := p.watchKeys(ctx, store)
			if ctx.Err() != nil {
				break
			}
			log.WithError(err).Warn("Following the cluster's keys failed, will try again")
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// watchKeys compares keys whenever those in the datastore change.
func (p *parts) watchKeys(ctx context.Context, store datastore) error {
	client, err := store.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := client.Watch(clientv3.WithRequireLeader(ctx), bootstrap.Key)
	for {
		// What changed before the watch began counts, too.
		outcome, err := p.syncBootstrap(ctx, store)
		if err == nil && outcome == bootstrap.Taken {
			err = p.takeKeysOver(ctx)
		}
		if err != nil {
			return err
		}
		r, open := <-changes
		if !open {
			return errors.New("the watch has ended")
		}
		if err := r.Err(); err != nil {
			return err
		}
	}
}

// taking makes takeKeysOver.
func (p *parts) taking(renewer *pki.Renewer, secrets *encryption.Controller, join *joinapi.API) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := errors.Join(p.tokens.Reload(), secrets.Take(ctx), renewer.Refresh(ctx)); err != nil {
			return err
		}
		err := p.tokens.SetCA(p.serverCA())
		join.Announce()
		return err
	}
}
