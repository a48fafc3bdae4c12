package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/datastore/etcd"
	"github.com/skiff-k8s/skiff/pkg/encryption"
	"github.com/skiff-k8s/skiff/pkg/keyring"
	"github.com/skiff-k8s/skiff/pkg/kube/apiserver"
)

// prepareEncryption reads the keys of Secrets, or makes them for a new cluster.
func (p *parts) prepareEncryption() (err error) {
	enabled := p.cfg.Encryption.Enabled && p.elsewhere() == ""
	p.ring, err = keyring.Open(p.cfg.Layout, p.fresh(), enabled, p.cfg.Encryption.Provider, time.Now())
	if err != nil {
		return err
	}
	if p.ring.Enabled() && !p.cfg.Encryption.Enabled {
		p.logs.For("secrets-encryption").Warn("Secrets stay encrypted: --secrets-encryption is for new clusters; to change this one: skiff secrets-encrypt disable")
	}
	p.encryption, err = apiserver.NewEncryption(p.cfg.Layout.EncryptionConfig())
	return err
}

// fresh says whether nothing of a cluster is here yet: no database, and where
// that is elsewhere, no keys.
func (p *parts) fresh() bool {
	missing := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	if p.datastoreKind() == config.DatastoreExternal && !missing(p.files.ServerCA.Key) {
		return false
	}
	return !p.joined && missing(p.cfg.Layout.SQLite()) && !etcd.Exists(p.cfg.Layout.Etcd())
}

// elsewhere says why the encryption of Secrets is the user's own business, or
// nothing.
func (p *parts) elsewhere() string {
	for _, name := range []string{"encryption-provider-config", "etcd-servers", "etcd-servers-overrides"} {
		if p.apiserverArg(name) != "" {
			return "the encryption of Secrets is not Skiff's business with kube-apiserver-arg " + name + ", which the configuration of this server has"
		}
	}
	return ""
}

// apiserverArg is the last value of one of the user's extra arguments.
func (p *parts) apiserverArg(name string) (value string) {
	for _, arg := range p.cfg.APIServer.Extra {
		if v, ok := strings.CutPrefix(arg, name+"="); ok {
			value = v
		}
	}
	return value
}

// secrets is told by which names other servers go once there are some.
func (p *parts) secrets(store datastore, peers func() []string) encryption.Config {
	prefix := p.apiserverArg("etcd-prefix")
	if prefix == "" {
		prefix = "/registry"
	}
	c := encryption.Config{
		Layout:   p.cfg.Layout,
		Ring:     p.ring,
		Provider: p.cfg.Encryption.Provider,
		Server:   p.cfg.Node.Name,
		Publish: func(ctx context.Context) error {
			_, err := p.syncBootstrap(ctx, store)
			return err
		},
		Reload:    p.encryption.Reload,
		Values:    encryption.Values{Client: store.client, Prefix: path.Join("/", prefix, "secrets") + "/"},
		Elsewhere: p.elsewhere(),
	}
	if store.shared {
		c.Server, c.Peers = p.self(), peers
	}
	return c
}
