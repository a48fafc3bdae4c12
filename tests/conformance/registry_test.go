package main

import (
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

func TestRegistryServesArchives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagetar.Write(f, imagetar.Image{Name: "registry.k8s.io/e2e-test-images/kitten:1.8"}); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	r, err := listenRegistry(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.close() }()
	if err := r.add(path); err != nil {
		t.Fatal(err)
	}
	get := func(what string) (*http.Response, string) {
		resp, err := http.Get("http://" + r.listener.Addr().String() + "/v2/e2e-test-images/kitten/" + what)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	byTag, manifest := get("manifests/1.8?ns=registry.k8s.io")
	if byTag.StatusCode != 200 || byTag.Header.Get("Content-Type") != "application/vnd.oci.image.manifest.v1+json" {
		t.Fatalf("the manifest: %v %s", byTag, manifest)
	}
	if _, same := get("manifests/" + byTag.Header.Get("Docker-Content-Digest")); same != manifest {
		t.Errorf("by its digest the manifest is %q", same)
	}
	if other, _ := get("manifests/2"); other.StatusCode != 404 {
		t.Errorf("an unknown tag is answered with %s", other.Status)
	}
}
