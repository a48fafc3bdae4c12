package imageimport_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// nameless makes a plain OCI layout of an archive: without docker's
// manifest.json, and with refName or nothing for its name.
func nameless(t *testing.T, data []byte, refName string) []byte {
	t.Helper()
	var out bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(data)), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "manifest.json" {
			continue
		}
		if h.Name == "index.json" {
			content = rename(t, content, refName)
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func rename(t *testing.T, index []byte, refName string) []byte {
	t.Helper()
	var i map[string]any
	if err := json.Unmarshal(index, &i); err != nil {
		t.Fatal(err)
	}
	for _, m := range i["manifests"].([]any) {
		manifest := m.(map[string]any)
		delete(manifest, "annotations")
		if refName != "" {
			manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": refName}
		}
	}
	changed, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}
