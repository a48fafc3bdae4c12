package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/images"
)

// archive is an image with another name in an archive that is compressed as
// the file's name says.
func archive(t *testing.T, image imagetar.Image, name, file string) string {
	t.Helper()
	image.Name = name
	var plain, packed bytes.Buffer
	if err := imagetar.Write(&plain, image); err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(file) {
	case ".gz":
		w := gzip.NewWriter(&packed)
		_, err := w.Write(plain.Bytes())
		if err != nil || w.Close() != nil {
			t.Fatal("compressing: ", err)
		}
	case ".zst":
		w, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain.Bytes()); err != nil || w.Close() != nil {
			t.Fatal("compressing: ", err)
		}
	default:
		packed = plain
	}
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImagesAreImportedWhileTheServerRuns(t *testing.T) {
	n := cluster(t)
	busybox, err := images.BusyboxImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range []string{"late.tar", "late.tar.gz", "late.tar.zst"} {
		name := fmt.Sprintf("late-%d", i)
		path := archive(t, busybox, "docker.io/example/"+name+":1", file)
		if err := n.CopyIn(t.Context(), path, framework.ImageDirectory+file); err != nil {
			t.Fatal(err)
		}
		n.Apply(t, strings.Replace(idle(name), "image: busybox:test", "image: example/"+name+":1", 1))
	}
	// The kubelet asks again for what was not there yet.
	n.Wait(t, "condition=Ready", "pod/late-0", "pod/late-1", "pod/late-2")
	out := n.Exec(t, "skiff", "ctr", "-n", "k8s.io", "images", "list")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "/late-") && !strings.Contains(line, "io.cri-containerd.pinned=pinned") {
			t.Errorf("not pinned: %s", line)
		}
	}
	t.Run("a damaged archive harms nothing", func(t *testing.T) {
		n.WriteFile(t, framework.ImageDirectory+"damaged.tar", "this is no archive")
		path := archive(t, busybox, "docker.io/example/after:1", "after.tar")
		if err := n.CopyIn(t.Context(), path, framework.ImageDirectory+"after.tar"); err != nil {
			t.Fatal(err)
		}
		framework.Eventually(t, 30*time.Second, "the next archive is imported", func() error {
			out, err := n.Try(t.Context(), nil, "skiff", "ctr", "-n", "k8s.io", "images", "list", "-q")
			if err == nil && !strings.Contains(out, "example/after:1") {
				err = fmt.Errorf("there are %s", out)
			}
			return err
		})
		n.Exec(t, "rm", framework.ImageDirectory+"damaged.tar")
	})
}
