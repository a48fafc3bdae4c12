package images

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

func TestArchivesHoldTheImages(t *testing.T) {
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("busybox-static is not installed")
	}
	paths, err := WriteAll(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) != 2 {
		t.Fatalf("wrote %v", paths)
	}
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		found := map[string]bool{}
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = true
		}
		for _, name := range []string{"oci-layout", "index.json", "manifest.json"} {
			if !found[name] {
				t.Errorf("%s has no %s", p, name)
			}
		}
	}
}
