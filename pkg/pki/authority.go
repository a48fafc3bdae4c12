package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

const (
	// caLifetime is kubeadm's and k3s': long enough for a device's life.
	caLifetime = 10 * 365 * 24 * time.Hour
	// caBackdate lets other hosts' clocks be a day behind at the first start.
	caBackdate = 24 * time.Hour
)

// Authority is a CA that can sign. It never changes and may be used by many
// goroutines at once.
type Authority struct {
	// Cert signs: the first certificate of the file.
	Cert *x509.Certificate
	// Bundle is the whole file, what others have to trust. A user's file may
	// hold an intermediate first and its root after it.
	Bundle []byte

	name  string
	chain []byte // intermediates that a leaf has to bring along
	key   crypto.Signer
}

// Pool is a certificate pool that trusts the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.Bundle)
	return pool
}

// ensureAuthority reads a CA, or makes it when neither file is there.
func ensureAuthority(name string, files CertKey, now time.Time, made *journal) (*Authority, error) {
	bundle, err := os.ReadFile(files.Cert)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(name, files, now, made)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", name, err)
	}
	certs, err := parseCerts(files.Cert, bundle)
	if err != nil {
		return nil, damaged(name, files, err)
	}
	keys, err := readKeys(files.Key)
	if err != nil {
		return nil, damaged(name, files, err)
	}
	a := newAuthority(name, certs, bundle, keys[0])
	if err := a.check(files, now); err != nil {
		return nil, err
	}
	return a, nil
}

func newAuthority(name string, certs []*x509.Certificate, bundle []byte, key crypto.Signer) *Authority {
	a := &Authority{name: name, Cert: certs[0], Bundle: bundle, key: key}
	for _, c := range certs {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			a.chain = append(a.chain, encodeCert(c.Raw)...)
		}
	}
	return a
}

// makeAuthority makes a CA. A key that is there without a certificate is what
// a first start leaves that was cut short between the two, and is used.
func makeAuthority(name string, files CertKey, now time.Time, made *journal) (*Authority, error) {
	var key crypto.Signer
	keys, err := readKeys(files.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fresh, keyPEM, err := newKey()
		if err != nil {
			return nil, err
		}
		if err := atomicfile.Write(files.Key, keyPEM, secretMode); err != nil {
			return nil, err
		}
		key = fresh
	case err != nil:
		return nil, damaged(name, files, err)
	default:
		key = keys[0]
	}
	cert, err := selfSign(name, key, now)
	if err != nil {
		return nil, err
	}
	bundle := encodeCert(cert.Raw)
	if err := atomicfile.Write(files.Cert, bundle, publicMode); err != nil {
		return nil, err
	}
	made.key(name, files.Cert)
	return newAuthority(name, []*x509.Certificate{cert}, bundle, key), nil
}

// selfSign makes the certificate of a new CA.
func selfSign(name string, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The time makes the subjects of two clusters' CAs differ, so that a
		// kubeconfig of the one is refused by the other with a clear reason.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("skiff-%s@%d", name, now.Unix())},
		NotBefore:             now.Add(-caBackdate).UTC(),
		NotAfter:              now.Add(caLifetime).UTC(),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the %s: %w", name, err)
	}
	return cert, nil
}

// check says what is wrong with a CA, which may be one that a user placed.
func (a *Authority) check(files CertKey, now time.Time) error {
	switch c := a.Cert; {
	case !publicEqual(c.PublicKey, a.key.Public()):
		return fmt.Errorf("%s does not belong to %s: the %s's key and certificate differ; put the two files back that belong together", files.Key, files.Cert, a.name)
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("%s is no CA certificate (its basic constraints do not say CA:TRUE): place a CA there, or remove it and %s before the first start to have them made", files.Cert, files.Key)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%s may not sign certificates (its key usage lacks keyCertSign): place another CA there", files.Cert)
	case now.Before(c.NotBefore):
		return &ClockError{Now: now, NotBefore: c.NotBefore, Reason: files.Cert + " is valid from then on"}
	case now.After(c.NotAfter):
		return fmt.Errorf("the %s expired at %s and the clock says %s: set the clock if it is wrong (date -s), else replace %s and %s",
			a.name, c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), files.Cert, files.Key)
	}
	return nil
}

// damaged says how to mend a CA: with one node, a new one costs little.
func damaged(name string, files CertKey, err error) error {
	return fmt.Errorf("the %s cannot be used: %w. Put back %s and %s from a backup; without one, remove both to have a new %s made, and then hand out every kubeconfig and join token of this cluster again",
		name, err, files.Cert, files.Key, name)
}

func newSerial() (*big.Int, error) {
	// RFC 5280: positive, at most 20 bytes; 128 random bits are unguessable.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
