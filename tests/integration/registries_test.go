package integration

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
	"github.com/skiff-k8s/skiff/tests/images"
)

// mirror is an image registry on the machine that serves one image, under any
// tag of the repository "app", to joe.
type mirror struct {
	*httptest.Server
	ca       string // PEM
	password atomic.Value

	manifest []byte
	blobs    map[string][]byte
}

func newMirror(t *testing.T, address net.IP) *mirror {
	t.Helper()
	m := &mirror{blobs: map[string][]byte{}}
	m.load(t)
	l, err := net.Listen("tcp", net.JoinHostPort(address.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	m.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: m}}
	m.TLS = &tls.Config{Certificates: []tls.Certificate{m.certify(t, address)}}
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// load takes an image apart.
func (m *mirror) load(t *testing.T) {
	t.Helper()
	busybox, err := images.BusyboxImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := imagetar.Write(&archive, busybox); err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []struct{ Digest string } }
	for r := tar.NewReader(&archive); ; {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if dir, name := path.Split(entry.Name); dir == "blobs/sha256/" {
			m.blobs["sha256:"+name] = data
		} else if name == "index.json" {
			if err := json.Unmarshal(data, &index); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.manifest = m.blobs[index.Manifests[0].Digest]
	if len(m.manifest) == 0 {
		t.Fatal("the archive has no manifest")
	}
}

// certify makes a private CA and a certificate of it for an address.
func (m *mirror) certify(t *testing.T, address net.IP) tls.Certificate {
	t.Helper()
	sign := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private"}, IsCA: true, BasicConstraintsValid: true}
	caDER, caKey := sign(ca, ca, nil)
	m.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}))
	der, key := sign(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{address}}, ca, caKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "joe" || password != m.password.Load() {
		w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	digest := path.Base(r.URL.Path)
	switch data := m.blobs[digest]; {
	case strings.HasPrefix(r.URL.Path, "/v2/app/manifests/"):
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.manifest))
	case strings.HasPrefix(r.URL.Path, "/v2/app/blobs/") && data != nil:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// registriesFile sends example.test to the mirror.
func (m *mirror) registriesFile(password string) string {
	return fmt.Sprintf(`
mirrors:
  example.test: {endpoint: [%s]}
configs:
  %q:
    auth: {username: joe, password: %s}
    tls: {ca_file: /etc/skiff/mirror.pem}
`, m.URL, m.Listener.Addr(), password)
}

func TestPrivateRegistry(t *testing.T) {
	t.Parallel()
	const file = "/etc/skiff/registries.yaml"
	h := suite.NewHost(t)
	m := newMirror(t, h.Gateway().AsSlice())
	m.password.Store("first-secret")
	app := func(tag string) string {
		return strings.Replace(idle("app-"+tag), "image: busybox:test", "image: example.test/app:"+tag, 1)
	}

	h.WriteFile(t, file, m.registriesFile("first-secret")+"mirors: {}\n")
	speaksOf(t, complaint(t, h, 0), file, "mirors", "did you mean mirrors?", "/etc/skiff/mirror.pem cannot be read")

	h.WriteFile(t, "/etc/skiff/mirror.pem", m.ca)
	h.WriteFile(t, file, m.registriesFile("first-secret"))
	server := h.StartServer(t)
	server.AwaitReady(t)
	n := h.NewNamespace(t)
	n.Apply(t, app("1"))
	n.Wait(t, "condition=Ready", "pod/app-1")

	// A broken edit changes nothing.
	h.WriteFile(t, file, "mirrors: [\n")
	framework.Eventually(t, 20*time.Second, "the mistake is told", func() error {
		if !strings.Contains(server.Logs(), "Keeping the registries there were") {
			return errors.New("the log does not speak of it")
		}
		return nil
	})
	n.Apply(t, app("2"))
	n.Wait(t, "condition=Ready", "pod/app-2")

	m.password.Store("second-secret")
	n.Apply(t, app("3"))
	n.Wait(t, "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull", "pod/app-3")
	h.WriteFile(t, file, m.registriesFile("second-secret"))
	n.Wait(t, "condition=Ready", "pod/app-3")

	shown := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "config", "show"}})
	for name, text := range map[string]string{"log": server.Logs(), "shown configuration": shown.Stdout} {
		if strings.Contains(text, "first-secret") || strings.Contains(text, "second-secret") {
			t.Errorf("the %s has a password in it", name)
		}
	}
	hosts := "/var/lib/skiff/agent/etc/containerd/certs.d/example.test/hosts.toml"
	if mode := strings.TrimSpace(h.Exec(t, "stat", "-c", "%a", hosts)); mode != "600" {
		t.Errorf("%s has mode %s", hosts, mode)
	}
}
