package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// settingsKey is where servers say which settings they have of those that all
// need to have the same: on an external datastore nobody asks them to join, and
// none of them is asked when it starts again.
const settingsKey = "/skiff/settings"

// noteSettings puts this server's settings there, if they are not there, and
// warns of those that were others. It cannot be more: who changes a setting of the
// whole cluster restarts one server after the other.
func (p *parts) noteSettings(ctx context.Context, store datastore) error {
	client, err := store.client()
	if err != nil {
		return err
	}
	defer client.Close()
	mine, err := json.Marshal(p.cfg.Shared())
	if err != nil {
		return err
	}
	r, err := client.Get(ctx, settingsKey)
	if err != nil {
		return fmt.Errorf("reading other servers' settings from the datastore: %w", err)
	}
	revision := int64(0)
	if len(r.Kvs) > 0 {
		if revision = r.Kvs[0].ModRevision; string(r.Kvs[0].Value) == string(mine) {
			return nil
		}
		var theirs map[string]string
		readable := json.Unmarshal(r.Kvs[0].Value, &theirs) == nil // else it is replaced, as it is of no use
		if lines := config.Differing(p.cfg.Shared(), theirs); readable && len(lines) > 0 {
			p.logs.For("bootstrap").Warnf("Settings that all servers of a cluster need to have the same were others at the last start of a server: %s (here is this server): give every server the same ones and restart it", strings.Join(lines, "; "))
		}
	}
	txn := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(settingsKey), "=", revision)).Then(clientv3.OpPut(settingsKey, string(mine)))
	if revision != 0 { // kine knows these two transactions and no third
		txn = txn.Else(clientv3.OpGet(settingsKey))
	}
	// If another server was faster, its settings are as good.
	if _, err := txn.Commit(); err != nil {
		return fmt.Errorf("noting this server's settings in the datastore: %w", err)
	}
	return nil
}

// compareSettings refuses to make this machine another server of a cluster
// whose settings are others.
func (p *parts) compareSettings(ctx context.Context, client *clientv3.Client) error {
	r, err := client.Get(ctx, settingsKey)
	if err != nil || len(r.Kvs) == 0 {
		return err
	}
	var theirs map[string]string
	if err := json.Unmarshal(r.Kvs[0].Value, &theirs); err != nil {
		return fmt.Errorf("other servers' settings in the datastore can't be read: %w", err)
	}
	if lines := config.Differing(p.cfg.Shared(), theirs); len(lines) > 0 {
		return fmt.Errorf("settings differ that all servers of a cluster need to have the same: %s (here is this server, there are those that use the datastore): give it the same ones", strings.Join(lines, "; "))
	}
	return nil
}
