package imagetar_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

func sample(name string) imagetar.Image {
	return imagetar.Image{
		Name:       name,
		Files:      []imagetar.File{{Path: "/usr/bin/app", Mode: 0o755, Data: []byte("app")}, {Path: "app", Mode: fs.ModeSymlink | 0o777, Data: []byte("usr/bin/app")}},
		Entrypoint: []string{"/app"},
		Env:        []string{"A=1"},
	}
}

func build(t *testing.T, images ...imagetar.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := imagetar.Write(&b, images...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestContainerdImportsTheArchive(t *testing.T) {
	store, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := build(t, sample("example.org/one:v1"), sample("example.org/two:v2"))
	top, err := archive.ImportIndex(t.Context(), store, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := content.ReadBlob(t.Context(), store, top)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range index.Manifests {
		names = append(names, m.Annotations[images.AnnotationImageName])
		config, err := images.Config(t.Context(), store, m, platforms.Default())
		if err != nil {
			t.Fatalf("%s has no configuration for this machine: %v", names[len(names)-1], err)
		}
		checkConfig(t, store, config)
	}
	if want := []string{"example.org/one:v1", "example.org/two:v2"}; !slices.Equal(names, want) {
		t.Errorf("the images are called %q, want %q", names, want)
	}
}

func checkConfig(t *testing.T, store content.Store, desc ocispec.Descriptor) {
	t.Helper()
	raw, err := content.ReadBlob(t.Context(), store, desc)
	if err != nil {
		t.Fatal(err)
	}
	var image ocispec.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(image.Config.Entrypoint, []string{"/app"}) || !slices.Equal(image.Config.Env, []string{"A=1"}) {
		t.Errorf("the image runs %q with environment %q", image.Config.Entrypoint, image.Config.Env)
	}
	if len(image.RootFS.DiffIDs) != 1 {
		t.Errorf("the image has %d layers, want 1", len(image.RootFS.DiffIDs))
	}
}

func TestSameInputGivesTheSameArchive(t *testing.T) {
	if !bytes.Equal(build(t, sample("a.org/x:1")), build(t, sample("a.org/x:1"))) {
		t.Error("two archives of one image differ")
	}
}
