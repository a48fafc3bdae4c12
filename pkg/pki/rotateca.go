package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// A CA is replaced by a file with three things in it: the new root, which signs
// from then on; the same key certified by the old CA; and the old CA. Leaves
// bring the second along, so whoever knows the old root alone still trusts
// them, and what the old CA has signed is good until it ends. Nobody has to be
// told of the new root at any particular moment.

// CASet are new CAs, by the paths of their files below server/tls. It is data
// that a user gave, or nothing: then new ones are made.
type CASet map[string][]byte

// CAFiles are the paths that a CASet may have.
func CAFiles() []string {
	var all []string
	for _, name := range rotatedCAs() {
		all = append(all, name+".crt", name+".key")
	}
	return append(all, serviceKey)
}

const serviceKey = "service.key"

func rotatedCAs() []string {
	return []string{"server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"}
}

// ReadCASet reads what a user has put into a directory: some of CAFiles.
func ReadCASet(dir string) (CASet, error) {
	set := CASet{}
	for _, name := range CAFiles() {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the new CAs: %w", err)
		}
		set[name] = data
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("there is none of the files of a CA in %s: put server-ca.crt and server-ca.key there, or those of client-ca, request-header-ca, etcd/server-ca, etcd/peer-ca, or %s", dir, serviceKey)
	}
	return set, nil
}

// RotateCA replaces CAs: those of the set, or without one all that there are.
// With force the old ones are trusted no more. Everything is checked before
// anything is written; what was written in part is finished by FinishRotation.
// The result names what was replaced.
func RotateCA(l layout.Layout, set CASet, force bool, now time.Time) ([]string, error) {
	if err := CheckClock(l, now); err != nil {
		return nil, err
	}
	next := CASet{}
	var names []string
	for _, name := range rotatedCAs() {
		files := CertKey{Cert: l.TLSFile(name + ".crt"), Key: l.TLSFile(name + ".key")}
		_, given := set[name+".crt"]
		if _, key := set[name+".key"]; given != key {
			return nil, fmt.Errorf("of the new %s there is one file and not the other: %s.crt and %s.key belong together", name, name, name)
		}
		if _, err := os.Stat(files.Cert); err != nil && errors.Is(err, fs.ErrNotExist) && given {
			return nil, fmt.Errorf("this cluster has no %s to be replaced", name)
		} else if err != nil || len(set) > 0 && !given {
			continue
		}
		bundle, key, err := successor(name, files, set, force, now)
		if err != nil {
			return nil, err
		}
		next[name+".crt"], next[name+".key"] = bundle, key
		names = append(names, name)
	}
	if data, ok := set[serviceKey]; ok {
		merged, err := mergeServiceKey(l.TLSFile(serviceKey), data, force)
		if err != nil {
			return nil, err
		}
		next[serviceKey] = merged
		names = append(names, "service-account key")
	}
	if err := distinct(l, next); err != nil {
		return nil, err
	}
	if err := stage(l, next); err != nil {
		return nil, err
	}
	return names, FinishRotation(l)
}

// successor makes the files of a CA that takes the place of another.
func successor(name string, files CertKey, set CASet, force bool, now time.Time) (bundle, keyPEM []byte, err error) {
	old, err := ensureAuthority(name, files, now, nil)
	if err != nil && !force {
		return nil, nil, fmt.Errorf("the CA that is there cannot vouch for another: %w (--force replaces it all the same)", err)
	}
	var certs []*x509.Certificate
	var key crypto.Signer
	if data, ok := set[name+".crt"]; ok {
		certs, key, err = givenCA(name, data, set[name+".key"], now)
		keyPEM = set[name+".key"]
	} else {
		certs, key, keyPEM, err = madeCA(name, now)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, c := range certs {
		bundle = append(bundle, encodeCert(c.Raw)...)
	}
	if force {
		return bundle, keyPEM, nil
	}
	if publicEqual(key.Public(), old.key.Public()) {
		return nil, nil, fmt.Errorf("the new %s has the key of the old one: nothing would be replaced", name)
	}
	cross, err := old.vouch(certs[0])
	if err != nil {
		return nil, nil, err
	}
	bundle = append(bundle, encodeCert(cross)...)
	previous, err := parseCerts(files.Cert, old.Bundle)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range previous {
		if now.Before(c.NotAfter) {
			bundle = append(bundle, encodeCert(c.Raw)...)
		}
	}
	return bundle, keyPEM, nil
}

func madeCA(name string, now time.Time) ([]*x509.Certificate, crypto.Signer, []byte, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := selfSign(strings.ReplaceAll(name, "/", "-"), key, now)
	if err != nil {
		return nil, nil, nil, err
	}
	return []*x509.Certificate{cert}, key, keyPEM, nil
}

// givenCA checks a user's CA: a root, or an intermediate and all up to its root.
func givenCA(name string, certPEM, keyPEM []byte, now time.Time) ([]*x509.Certificate, crypto.Signer, error) {
	certs, err := parseCerts("the new "+name+".crt", certPEM)
	if err != nil {
		return nil, nil, err
	}
	keys, err := parseKeys("the new "+name+".key", keyPEM)
	if err != nil {
		return nil, nil, err
	}
	a := newAuthority(name, certs, certPEM, keys[0])
	if err := a.check(CertKey{Cert: "the new " + name + ".crt", Key: "the new " + name + ".key"}, now); err != nil {
		return nil, nil, err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range certs {
		if selfSigned(c) {
			roots.AddCert(c)
		} else {
			between.AddCert(c)
		}
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, nil, fmt.Errorf("the new %s.crt does not lead to a root: put the certificates of its issuers after it, up to the self-signed one: %w", name, err)
	}
	return certs, keys[0], nil
}

// vouch certifies the key of another CA.
func (a *Authority) vouch(other *x509.Certificate) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	end := other.NotAfter
	if a.Cert.NotAfter.Before(end) {
		end = a.Cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, RawSubject: other.RawSubject, SubjectKeyId: other.SubjectKeyId,
		NotBefore: later(a.Cert.NotBefore, other.NotBefore), NotAfter: end,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}, a.Cert, other.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("having the old %s vouch for the new one: %w", a.name, err)
	}
	return der, nil
}

// mergeServiceKey puts a new key before those that there are, whose tokens stay
// good.
func mergeServiceKey(path string, data []byte, force bool) ([]byte, error) {
	if _, err := parseKeys("the new "+serviceKey, data); err != nil {
		return nil, err
	}
	if force {
		return data, nil
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the service-account key: %w", err)
	}
	if bytes.Contains(old, bytes.TrimSpace(data)) {
		return nil, fmt.Errorf("the new %s is in use already", serviceKey)
	}
	return append(append(bytes.TrimSpace(data), '\n'), old...), nil
}

// distinct refuses a client CA that is also the one of front proxies.
func distinct(l layout.Layout, next CASet) error {
	key := func(name string) (crypto.PublicKey, error) {
		data, ok := next[name+".key"]
		if !ok {
			var err error
			if data, err = os.ReadFile(l.TLSFile(name + ".key")); err != nil {
				return nil, fmt.Errorf("comparing CAs: %w", err)
			}
		}
		keys, err := parseKeys(name+".key", data)
		if err != nil {
			return nil, err
		}
		return keys[0].Public(), nil
	}
	client, err := key("client-ca")
	if err != nil {
		return err
	}
	front, err := key("request-header-ca")
	if err != nil {
		return err
	}
	if publicEqual(client, front) {
		return errors.New("client-ca and request-header-ca would be the same CA: whoever holds a client certificate could then speak for anyone; use two")
	}
	return nil
}

// staged is a directory with new CAs that are complete and not yet in place.
func staged(l layout.Layout) string { return l.TLSFile("next") }

// stage puts the files beside those in use, all or none of them.
func stage(l layout.Layout, set CASet) error {
	dir := staged(l)
	tmp := dir + ".tmp"
	for _, old := range []string{tmp, dir} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("preparing to replace CAs: %w", err)
		}
	}
	for name, data := range set {
		path := filepath.Join(tmp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("preparing to replace CAs: %w", err)
		}
		if err := atomicfile.Write(path, data, caMode(name)); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("preparing to replace CAs: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}

func caMode(name string) fs.FileMode {
	if strings.HasSuffix(name, ".key") {
		return secretMode
	}
	return publicMode
}

// FinishRotation puts staged CAs into place. It is called at every start,
// because that may have been cut short.
func FinishRotation(l layout.Layout) error {
	if _, err := os.Stat(staged(l)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range CAFiles() {
		data, err := os.ReadFile(filepath.Join(staged(l), filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("replacing CAs: %w", err)
		}
		if err := atomicfile.Write(l.TLSFile(filepath.FromSlash(name)), data, caMode(name)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(staged(l)); err != nil {
		return fmt.Errorf("replacing CAs: %w", err)
	}
	return nil
}

// Adopt is what to trust for whoever trusts known and is offered a bundle by a
// server of the cluster: roots are believed that one that is known vouches for
// by a certificate in the bundle, and no others.
func Adopt(known, offered []byte) ([]byte, error) {
	if len(offered) == 0 {
		return known, nil
	}
	have, err := parseCerts("the known CA", known)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts("the offered CA", offered)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	for _, c := range have {
		trusted.AddCert(c)
	}
	between := x509.NewCertPool()
	for _, c := range certs {
		if !selfSigned(c) {
			between.AddCert(c)
		}
	}
	vouched := func(root *x509.Certificate) bool {
		for _, c := range append(have, certs...) {
			if !publicEqual(c.PublicKey, root.PublicKey) || !bytes.Equal(c.RawSubject, root.RawSubject) {
				continue
			}
			// At a time when it was good: an old root may end before what it vouched for is known here.
			if _, err := c.Verify(x509.VerifyOptions{Roots: trusted, Intermediates: between, CurrentTime: c.NotBefore.Add(time.Second),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
				return true
			}
		}
		return false
	}
	var out []byte
	for _, c := range certs {
		if !selfSigned(c) || vouched(c) {
			out = append(out, encodeCert(c.Raw)...)
		}
	}
	for _, c := range have {
		if !bytes.Contains(out, encodeCert(c.Raw)) {
			out = append(out, encodeCert(c.Raw)...)
		}
	}
	return out, nil
}
