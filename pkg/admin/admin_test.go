package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/token"
)

// pair is a certificate that signs itself, and its key, in PEM form.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

const template = `apiVersion: v1
kind: Config
current-context: here
contexts: [{name: other, context: {cluster: none, user: none}}, {name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, %s}}]
users: [{name: u, user: {%s}}]
`

func TestKubeconfigsAreReadAsKubectlReadsThem(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t)
	_, otherKey := pair(t)
	for name, data := range map[string][]byte{"ca.crt": cert, "me.crt": cert, "me.key": key, "token": []byte("from-a-file\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b64 := base64.StdEncoding.EncodeToString
	ca, me := "certificate-authority-data: "+b64(cert), fmt.Sprintf("client-certificate-data: %s, client-key-data: %s", b64(cert), b64(key))
	for name, tt := range map[string]struct {
		server, cluster, user string
		want                  string // in the error; "" for none
		certs                 int
		token                 string
	}{
		"data":                  {"https://127.0.0.1:6443", ca, me, "", 1, ""},
		"files beside it":       {"https://127.0.0.1:6443", "certificate-authority: ca.crt", "client-certificate: me.crt, client-key: " + filepath.Join(dir, "me.key"), "", 1, ""},
		"a token":               {"https://127.0.0.1:6443", ca, "token: abc", "", 0, "abc"},
		"a token in a file":     {"https://127.0.0.1:6443", ca, "tokenFile: token", "", 0, "from-a-file\n"},
		"no https":              {"http://127.0.0.1:6443", ca, me, "is no https URL", 0, ""},
		"a CA that is none":     {"https://127.0.0.1:6443", "certificate-authority-data: " + b64([]byte("x")), me, "has no certificate in it", 0, ""},
		"another key":           {"https://127.0.0.1:6443", ca, fmt.Sprintf("client-certificate-data: %s, client-key-data: %s", b64(cert), b64(otherKey)), "client certificate and key", 0, ""},
		"a file that is gone":   {"https://127.0.0.1:6443", ca, "client-certificate: gone.crt", "gone.crt", 0, ""},
		"a program to be asked": {"https://127.0.0.1:6443", ca, "exec: {command: x}", "neither a client certificate nor a token", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "kubeconfig")
			if err := os.WriteFile(path, fmt.Appendf(nil, template, tt.server, tt.cluster, tt.user), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readKubeconfig(path)
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil && (got.server.String() != tt.server || len(got.tls.Certificates) != tt.certs || got.token != tt.token || got.tls.RootCAs == nil || got.tls.InsecureSkipVerify) {
				t.Errorf("got %+v", got)
			}
		})
	}
	path := filepath.Join(dir, "kubeconfig")
	for text, want := range map[string]string{"{}": "no current context", "secret-key: [": "cannot be parsed", "current-context: x": "no current context"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKubeconfig(path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-key") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestASecretIsReadAsAToken(t *testing.T) {
	s := secret{Data: map[string][]byte{
		token.FieldID: []byte("abc123"), token.FieldSecret: []byte("0123456789abcdef"), token.FieldExpiration: []byte("2026-11-01T12:00:00Z"),
		token.FieldAuthentication: []byte("true"), token.FieldSigning: []byte("false"), token.FieldGroups: []byte(token.JoinGroup + ",system:bootstrappers:b"),
	}}
	b := s.token()
	if b.ID != "abc123" || b.Expires == nil || !slices.Equal(b.Usages, []string{"authentication"}) || len(b.Groups) != 2 || !b.Joins() {
		t.Errorf("got %+v", b)
	}
	s.Data = map[string][]byte{token.FieldID: []byte("abc123"), token.FieldExpiration: []byte("soon")}
	if b := s.token(); b.Expires != nil || b.Joins() || b.Usages == nil || b.Groups == nil {
		t.Errorf("got %+v", b)
	}
}
