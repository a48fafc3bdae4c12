package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// Authorities are the CAs of a cluster, the same on each of its servers.
type Authorities struct {
	Server        *Authority
	Client        *Authority
	RequestHeader *Authority
	// EtcdServer and EtcdPeer are nil without an embedded etcd.
	EtcdServer, EtcdPeer *Authority
}

func (a *Authorities) expires() time.Time {
	first := a.Server.Cert.NotAfter
	for _, ca := range []*Authority{a.Client, a.RequestHeader, a.EtcdServer, a.EtcdPeer} {
		if ca != nil && ca.Cert.NotAfter.Before(first) {
			first = ca.Cert.NotAfter
		}
	}
	return first
}

func ensureAuthorities(c ServerConfig, now time.Time, made *journal) (*Authorities, error) {
	l := c.Layout
	// A clock that is plainly wrong must not become the birthday of a CA.
	if err := CheckClock(l, now); err != nil {
		return nil, err
	}
	if err := closeDir(l.TLS()); err != nil {
		return nil, err
	}
	files := ServerFilesOf(l)
	a := &Authorities{}
	k := &keeper{now: now, made: made}
	ensure := func(into **Authority, name string, files CertKey) {
		k.spawn(func() (err error) {
			*into, err = ensureAuthority(name, files, now, made)
			return err
		})
	}
	ensure(&a.Server, "server-ca", files.ServerCA)
	ensure(&a.Client, "client-ca", files.ClientCA)
	ensure(&a.RequestHeader, "request-header-ca", files.RequestHeaderCA)
	if c.Etcd {
		etcd := EtcdFilesOf(l)
		ensure(&a.EtcdServer, "etcd-server-ca", etcd.ServerCA)
		ensure(&a.EtcdPeer, "etcd-peer-ca", etcd.PeerCA)
	}
	k.spawn(func() error { return ensureServiceAccountKey(files, made) })
	if err := k.wait(); err != nil {
		return nil, err
	}
	// Upstream's signer takes a file with one certificate in it.
	for path, ca := range map[string]*Authority{files.ServerSigner: a.Server, files.ClientSigner: a.Client} {
		if err := writePublic(path, encodeCert(ca.Cert.Raw)); err != nil {
			return nil, err
		}
	}
	if publicEqual(a.Client.Cert.PublicKey, a.RequestHeader.Cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s are the same CA: whoever holds a client certificate could then speak for anyone; use two",
			files.ClientCA.Cert, files.RequestHeaderCA.Cert)
	}
	return a, nil
}

// closeDir takes a directory of secrets away from group and others.
func closeDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the directory of keys: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("closing the directory of keys: %w", err)
	}
	return nil
}

// ensureServiceAccountKey makes the key that signs service-account tokens and
// keeps its public part beside it. A user's file may hold several keys: the
// first signs, and tokens of all of them are good.
func ensureServiceAccountKey(files ServerFiles, made *journal) error {
	keys, err := readKeys(files.ServiceAccountKey)
	if errors.Is(err, fs.ErrNotExist) {
		key, keyPEM, err := newKey()
		if err != nil {
			return err
		}
		if err := atomicfile.Write(files.ServiceAccountKey, keyPEM, secretMode); err != nil {
			return err
		}
		made.key("service-account key", files.ServiceAccountKey)
		keys = []crypto.Signer{key}
	} else if err != nil {
		return fmt.Errorf("the service-account key cannot be used: %w. Put it back from a backup; without one, remove it to have a new one made, and then restart all pods, whose tokens are void without it", err)
	}
	var public bytes.Buffer
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return fmt.Errorf("encoding the public part of %s: %w", files.ServiceAccountKey, err)
		}
		if err := pem.Encode(&public, &pem.Block{Type: blockPublic, Bytes: der}); err != nil {
			return err
		}
	}
	_, err = atomicfile.WriteIfChanged(files.ServiceAccountPub, public.Bytes(), publicMode)
	return err
}
