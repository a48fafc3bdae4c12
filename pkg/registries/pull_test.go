package registries

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	dockerconfig "github.com/containerd/containerd/v2/core/remotes/docker/config"
)

const manifest = `{"schemaVersion":2}`

// registry is one that serves a single manifest to joe:secret, either at once
// or for a token that it gives to him.
func registry(t *testing.T, tokens bool) *httptest.Server {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		known := user == "joe" && password == "secret"
		switch {
		case r.URL.Path == "/token" && known:
			fmt.Fprint(w, `{"token":"ticket"}`)
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		case tokens && r.Header.Get("Authorization") != "Bearer ticket":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, server.URL))
			w.WriteHeader(http.StatusUnauthorized)
		case !tokens && !known:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/v2/hub/app/manifests/"):
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", "sha256:aa0ec3d3b9d2c4a0f1c6b4d8ec6f1d27f42d1a0b7b4b6d0d5b9b2a9e27c6a111")
			w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
			if r.Method == http.MethodGet {
				fmt.Fprint(w, manifest)
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// The reader of the files is containerd's own code.
func TestContainerdUnderstands(t *testing.T) {
	for name, tokens := range map[string]bool{"a registry with passwords": false, "a registry with tokens": true} {
		t.Run(name, func(t *testing.T) {
			server := registry(t, tokens)
			ca := filepath.Join(t.TempDir(), "ca.pem")
			block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
			if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			hosts := filepath.Join(t.TempDir(), "certs.d")
			resolve := func(password, podUser, podPassword string) error {
				host := strings.TrimPrefix(server.URL, "https://")
				d := mustParse(t, fmt.Sprintf(`
mirrors: {example.test:5000: {endpoint: [%s], rewrite: {"(.*)": "hub/$1"}}}
configs: {"%s": {auth: {username: joe, password: %s}, tls: {ca_file: %s}}}
`, server.URL, host, password, ca))
				if _, err := writeHosts(hosts, d.render(false)); err != nil {
					t.Fatal(err)
				}
				resolver := docker.NewResolver(docker.ResolverOptions{
					Hosts: dockerconfig.ConfigureHosts(t.Context(), dockerconfig.HostOptions{
						HostDir:     dockerconfig.HostDirFromRoot(hosts),
						Credentials: func(string) (string, string, error) { return podUser, podPassword, nil },
					}),
				})
				_, _, err := resolver.Resolve(t.Context(), "example.test:5000/app:1")
				return err
			}
			if err := resolve("secret", "", ""); err != nil {
				t.Error("with the right password: ", err)
			}
			if err := resolve("wrong", "", ""); err == nil {
				t.Error("any password will do")
			}
			if err := resolve("wrong", "joe", "secret"); err != nil {
				t.Error("with the right password in a pod's imagePullSecrets: ", err)
			}
		})
	}
}
