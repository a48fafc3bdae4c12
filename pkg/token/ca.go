package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// MismatchError says that a server's CA is not the one that a token is bound
// to.
type MismatchError struct {
	Want, Got string // hashes
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the CA of the server has the hash %.12s..., the token is bound to %.12s...: the token is of another cluster, or somebody is between this machine and the server", e.Got, e.Want)
}

// HashCA is the hash that binds a token to a CA: of a single certificate that
// over the PEM file as it is, of several that over the DER form of the root
// that the first leads to. The rule is k3s'.
func HashCA(bundle []byte) (string, error) {
	_, hash, err := anchor(bundle)
	return hash, err
}

// Pin returns the part of a server's CA bundle that a token's hash vouches for:
// the root and what the root has signed. The error is a *MismatchError when the
// hash is another.
func Pin(bundle []byte, hash string) ([]byte, error) {
	trusted, got, err := anchor(bundle)
	if err != nil {
		return nil, err
	}
	if got == hash {
		return trusted, nil
	}
	// A CA that was replaced is still in the bundle, and tokens of its time
	// stay good. They vouch for that root alone, and it for the new one.
	certs, err := parse(bundle)
	if err != nil {
		return nil, err
	}
	for _, c := range certs[1:] {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if (digest(text) == hash || digest(c.Raw) == hash) && c.CheckSignatureFrom(c) == nil && vouches(c, certs) {
			return text, nil
		}
	}
	return nil, &MismatchError{Want: hash, Got: got}
}

// vouches says whether a root has certified the key of the first certificate,
// by others of the bundle.
func vouches(root *x509.Certificate, certs []*x509.Certificate) bool {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	options.Roots.AddCert(root)
	for _, c := range certs {
		if c.CheckSignatureFrom(c) != nil {
			options.Intermediates.AddCert(c)
		}
	}
	for _, c := range certs {
		if !bytes.Equal(c.RawSubject, certs[0].RawSubject) || !bytes.Equal(c.RawSubjectPublicKeyInfo, certs[0].RawSubjectPublicKeyInfo) {
			continue
		}
		// At a time when it was good: connections are held against the root at
		// the time that it is.
		options.CurrentTime = c.NotBefore.Add(time.Second)
		if _, err := c.Verify(options); err == nil {
			return true
		}
	}
	return false
}

// anchor finds the root of a bundle. The hash of a root says nothing of
// certificates beside it, so those that do not lead to it are left out.
func anchor(bundle []byte) (trusted []byte, hash string, err error) {
	certs, err := parse(bundle)
	if err != nil {
		return nil, "", err
	}
	if len(certs) == 1 {
		return bundle, digest(bundle), nil
	}
	chain, err := lead(certs)
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	for _, c := range chain {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, "", err
		}
	}
	return out.Bytes(), digest(chain[len(chain)-1].Raw), nil
}

// lead follows issuers from the first certificate to a root.
func lead(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	chain, rest := certs[:1:1], certs[1:]
	for {
		last := chain[len(chain)-1]
		if last.CheckSignatureFrom(last) == nil {
			return chain, nil
		}
		found := -1
		for i, c := range rest {
			if last.CheckSignatureFrom(c) == nil {
				found = i
				break
			}
		}
		if found < 0 {
			return nil, errors.New("the CA bundle of the server has no root that its first certificate leads to")
		}
		chain = append(chain, rest[found])
		rest = append(rest[:found:found], rest[found+1:]...)
	}
}

func parse(bundle []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the CA bundle of the server: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("what the server calls its CA has no certificate in it")
	}
	return certs, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
