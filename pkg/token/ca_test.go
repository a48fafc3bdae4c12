package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCA is a CA signed by parent, or by itself when that is nil.
func newCA(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer := &authority{template, key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func bundle(all ...*authority) []byte {
	var b bytes.Buffer
	for _, a := range all {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	}
	return b.Bytes()
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func TestHashOfOneCAIsOverTheFileAndOfABundleOverTheRoot(t *testing.T) {
	root := newCA(t, "root", nil)
	middle := newCA(t, "middle", root)
	leaf := newCA(t, "signing", middle)
	other := newCA(t, "other", nil)
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"a single one":                     {bundle(root), sum(bundle(root))},
		"a single one with text around it": {append([]byte("# mine\n"), bundle(root)...), sum(append([]byte("# mine\n"), bundle(root)...))},
		"an intermediate and its root":     {bundle(middle, root), sum(root.cert.Raw)},
		"a longer chain in no order":       {bundle(leaf, root, middle), sum(root.cert.Raw)},
		"a root and one after it":          {bundle(root, other), sum(root.cert.Raw)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := HashCA(tt.data)
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
	for name, data := range map[string][]byte{
		"nothing":                      nil,
		"no PEM":                       []byte("<html>"),
		"PEM that is no certificate":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"an intermediate without root": bundle(middle, other),
		"a key":                        pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
	} {
		if _, err := HashCA(data); err == nil {
			t.Errorf("%s has a hash", name)
		}
	}
}

func TestPinTrustsOnlyWhatTheHashVouchesFor(t *testing.T) {
	root, evil := newCA(t, "root", nil), newCA(t, "evil", nil)
	middle := newCA(t, "middle", root)
	trusted, err := Pin(bundle(middle, evil, root), sum(root.cert.Raw))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(trusted, bundle(middle, root)) {
		t.Errorf("trusts\n%s", trusted)
	}
	var mismatch *MismatchError
	for name, data := range map[string][]byte{
		"another CA":                     bundle(evil),
		"another CA with the true root":  bundle(evil, root),
		"a forged intermediate in front": bundle(newCA(t, "middle", evil), evil, root),
	} {
		if _, err := Pin(data, sum(root.cert.Raw)); !errors.As(err, &mismatch) {
			t.Errorf("%s is trusted: %v", name, err)
		}
	}
	one := bundle(root)
	if got, err := Pin(one, sum(one)); err != nil || !bytes.Equal(got, one) {
		t.Errorf("a single CA: %s, %v", got, err)
	}
	if _, err := Pin(append(bundle(root), bundle(evil)...), sum(one)); !errors.As(err, &mismatch) {
		t.Errorf("a single CA's hash vouches for a bundle: %v", err)
	}
}
