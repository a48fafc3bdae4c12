package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// Modes of what the package writes.
const (
	publicMode = 0o644
	secretMode = 0o600
)

// PEM block types, as openssl writes them.
const (
	blockCert    = "CERTIFICATE"
	blockECKey   = "EC PRIVATE KEY"
	blockRSAKey  = "RSA PRIVATE KEY"
	blockPKCS8   = "PRIVATE KEY"
	blockPublic  = "PUBLIC KEY"
	blockRequest = "CERTIFICATE REQUEST"
	noPEMMessage = "%s holds no whole %s in PEM form (it has %d bytes)"
)

// newKey makes an ECDSA P-256 key: as strong as RSA 3072, and made, used and
// parsed in microseconds, which a start on a small device notices.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: blockECKey, Bytes: der}), nil
}

// readKeys reads all private keys of a PEM file. It closes a file that group
// or others can read, because a key that a user copied in is a secret too.
func readKeys(path string) ([]crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, secretMode); err != nil {
			return nil, fmt.Errorf("closing %s to others: %w", path, err)
		}
	}
	return parseKeys(path, data)
}

func parseKeys(path string, data []byte) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("the key in %s: %w", path, err)
		}
		if key != nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf(noPEMMessage, path, "private key", len(data))
	}
	return keys, nil
}

// parseKey returns nil for blocks that are no keys, such as EC PARAMETERS.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case blockECKey:
		return x509.ParseECPrivateKey(block.Bytes)
	case blockRSAKey:
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case blockPKCS8:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a key of type %T cannot sign", key)
		}
		return signer, nil
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("it is protected by a passphrase, which nobody could type at a start")
	default:
		return nil, nil
	}
}

// parseCerts parses all certificates of a PEM file; there is at least one.
func parseCerts(path string, data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != blockCert {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate in %s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf(noPEMMessage, path, "certificate", len(data))
	}
	return certs, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der})
}

// publicEqual says whether two public keys are the same.
func publicEqual(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// writePair writes the key first: a key without its certificate is a start
// that was cut short, and what follows can be told from it.
func writePair(files CertKey, certPEM, keyPEM []byte) error {
	if err := atomicfile.Write(files.Key, keyPEM, secretMode); err != nil {
		return err
	}
	return atomicfile.Write(files.Cert, certPEM, publicMode)
}
