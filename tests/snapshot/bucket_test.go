package snapshot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/databases"
	"github.com/skiff-k8s/skiff/tests/framework"
)

const (
	bucketName = "backups"
	accessKey  = "tester"
	secretKey  = "not for others to see"
)

// buildS3 builds the S3 server once, from its own module, into tools.
var buildS3 = sync.OnceValues(func() (string, error) {
	path := filepath.Join(tools, "versitygw")
	cmd := exec.Command("go", "build", "-C", "s3server", "-trimpath", "-buildvcs=false", "-o", path, "github.com/versity/versitygw/cmd/versitygw")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the S3 server: %w\n%s", err, out)
	}
	return path, nil
})

// s3 is an S3 server on the machine with one bucket, with a certificate of a CA
// that nobody knows.
type s3 struct {
	endpoint, ca string // ca is PEM
	objects      string // directory of what is in the bucket
}

func startS3(t *testing.T, at netip.Addr) *s3 {
	t.Helper()
	program, err := buildS3()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &s3{objects: filepath.Join(dir, "data", bucketName), endpoint: freePort(t, at)}
	if err := os.MkdirAll(s.objects, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "about"), 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s.ca = certify(t, at, cert, key)
	script := fmt.Sprintf("ROOT_ACCESS_KEY='%s' ROOT_SECRET_KEY='%s' exec '%s' --port '%s' --cert '%s' --key '%s' --quiet posix --sidecar '%s' '%s'",
		accessKey, secretKey, program, s.endpoint, cert, key, filepath.Join(dir, "about"), filepath.Join(dir, "data"))
	log := filepath.Join(dir, "log")
	stop, err := databases.Start(script, syscall.SIGTERM, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			text, _ := os.ReadFile(log)
			t.Errorf("the S3 server: %v\n%s", err, text)
		}
	})
	framework.Eventually(t, patience, "the S3 server", func() error {
		c, err := net.DialTimeout("tcp", s.endpoint, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return s
}

func freePort(t *testing.T, at netip.Addr) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func certify(t *testing.T, at netip.Addr, cert, key string) (pemCert string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "s3"}, IPAddresses: []net.IP{at.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(cert, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
