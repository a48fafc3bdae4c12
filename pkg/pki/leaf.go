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
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	// leafLifetime is k3s' and kubeadm's.
	leafLifetime = 365 * 24 * time.Hour
	// leafBackdate lets other hosts' clocks be an hour behind.
	leafBackdate = time.Hour
	// renewFraction of the lifetime left makes a certificate due: 121 days of
	// a year, so that a device that is off for a season finds it still good.
	renewFraction = 3
)

// Leaf is what a certificate is to say.
type Leaf struct {
	CommonName    string
	Organizations []string
	DNSNames      []string     // sorted, without duplicates
	IPs           []netip.Addr // sorted, without duplicates
	Usage         x509.ExtKeyUsage
	// Mutual is for a certificate of both ends of a connection.
	Mutual bool
}

func (l Leaf) usages() []x509.ExtKeyUsage {
	if l.Mutual {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{l.Usage}
}

// pair is a certificate with its key, as the files have them.
type pair struct {
	cert    *x509.Certificate
	certPEM []byte
	keyPEM  []byte
}

// Sign issues a certificate for a key that someone else holds. The result is
// PEM: the certificate and the intermediates that it needs.
func (a *Authority) Sign(spec Leaf, public crypto.PublicKey, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: spec.CommonName, Organization: spec.Organizations},
		DNSNames:     spec.DNSNames,
		IPAddresses:  netIPs(spec.IPs),
		NotBefore:    later(now.Add(-leafBackdate), a.Cert.NotBefore).UTC(),
		NotAfter:     a.leafEnd(now),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  spec.usages(),
		// Says that this is no CA, which some verifiers insist on being told.
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing %q with the %s: %w", spec.CommonName, a.name, err)
	}
	return append(encodeCert(der), a.chain...), nil
}

// leafEnd is when a certificate issued now would expire, to the second as
// certificates have it: after leafLifetime, but not after its CA.
func (a *Authority) leafEnd(now time.Time) time.Time {
	end := now.Add(leafLifetime)
	if a.Cert.NotAfter.Before(end) {
		end = a.Cert.NotAfter
	}
	return end.UTC().Truncate(time.Second)
}

// keepLeaf returns the pair in files, issued anew unless it is good.
func keepLeaf(ca *Authority, spec Leaf, files CertKey, now time.Time, anew bool, made *journal) (pair, error) {
	p, reason := readLeaf(files)
	if reason == "" && anew {
		reason = "it was asked for"
	}
	if reason == "" {
		reason = p.unfit(ca, spec, now)
	}
	// A machine may get an address just when the kubelet starts, which reads
	// certificate and key one after the other and ends over a pair that does
	// not match: for other names the key stays.
	keep := false
	if reason == "" {
		reason, keep = p.misnamed(spec), true
	}
	if reason == "" {
		return p, nil
	}
	key, keyPEM, err := keyOf(files, p, keep)
	if err != nil {
		return pair{}, err
	}
	certPEM, err := ca.Sign(spec, key.Public(), now)
	if err != nil {
		return pair{}, err
	}
	if err := writePair(files, certPEM, keyPEM); err != nil {
		return pair{}, err
	}
	certs, err := parseCerts(files.Cert, certPEM)
	if err != nil {
		return pair{}, fmt.Errorf("reading back %s: %w", files.Cert, err)
	}
	made.leaf(spec.CommonName, files.Cert, reason, certs[0].NotAfter)
	return pair{cert: certs[0], certPEM: certPEM, keyPEM: keyPEM}, nil
}

// keyOf is the key of a pair that was read, if it is to be kept, or a new one.
func keyOf(files CertKey, p pair, keep bool) (crypto.Signer, []byte, error) {
	if keep {
		if keys, err := parseKeys(files.Key, p.keyPEM); err == nil {
			return keys[0], p.keyPEM, nil
		}
	}
	return newKey()
}

// readLeaf reads a pair. Whatever is wrong with it is a reason to issue it
// anew, no error: nothing is lost with a leaf.
func readLeaf(files CertKey) (p pair, reason string) {
	var err error
	if p.certPEM, err = os.ReadFile(files.Cert); errors.Is(err, fs.ErrNotExist) {
		return p, "there was none"
	} else if err != nil {
		return p, err.Error()
	}
	certs, err := parseCerts(files.Cert, p.certPEM)
	if err != nil {
		return p, err.Error()
	}
	p.cert = certs[0]
	if p.keyPEM, err = os.ReadFile(files.Key); err != nil {
		return p, err.Error()
	}
	keys, err := parseKeys(files.Key, p.keyPEM)
	if err != nil {
		return p, err.Error()
	}
	if !publicEqual(p.cert.PublicKey, keys[0].Public()) {
		return p, "its key belonged to another certificate"
	}
	return p, ""
}

// misnamed says which names or addresses a certificate lacks or has too many,
// or nothing.
func (p pair) misnamed(spec Leaf) string {
	switch c := p.cert; {
	case !slices.Equal(c.DNSNames, spec.DNSNames):
		return fmt.Sprintf("its names were %v, to be %v", c.DNSNames, spec.DNSNames)
	case !slices.Equal(addrs(c.IPAddresses), spec.IPs):
		return fmt.Sprintf("its addresses were %v, to be %v", c.IPAddresses, spec.IPs)
	}
	return ""
}

// unfit says why a certificate has to be replaced with its key, or nothing.
func (p pair) unfit(ca *Authority, spec Leaf, now time.Time) string {
	c := p.cert
	switch {
	case !bytes.Equal(c.RawIssuer, ca.Cert.RawSubject) || c.CheckSignatureFrom(ca.Cert) != nil:
		return "the " + ca.name + " changed"
	case !bytes.HasSuffix(p.certPEM, ca.chain):
		return "the " + ca.name + "'s chain changed"
	case c.Subject.CommonName != spec.CommonName || !slices.Equal(c.Subject.Organization, spec.Organizations):
		return fmt.Sprintf("its subject was %q", c.Subject)
	case !slices.Equal(c.ExtKeyUsage, spec.usages()):
		return "its usage changed"
	case now.Before(c.NotBefore):
		return "it was made by a clock ahead of this one, valid only from " + c.NotBefore.Format(time.RFC3339)
	case !now.Before(renewAt(c)) && ca.leafEnd(now).After(c.NotAfter):
		return "it was to expire on " + c.NotAfter.Format(time.DateOnly)
	}
	return ""
}

// renewAt is when a certificate is due.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / renewFraction)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func netIPs(list []netip.Addr) []net.IP {
	ips := make([]net.IP, 0, len(list))
	for _, a := range list {
		ips = append(ips, a.AsSlice())
	}
	return ips
}

func addrs(ips []net.IP) []netip.Addr {
	list := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, a.Unmap())
		}
	}
	return list
}
