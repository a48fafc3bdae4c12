// Package images builds the container images that tests and the sample app
// use, from what the machine has: Debian's static busybox and Go programs of
// this repository. Nothing is downloaded. Tests and scripts import it.
package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

// Names of the images, as pod specifications have them.
const (
	Busybox = "docker.io/library/busybox:test"
	Web     = "docker.io/skiff/web:test"
)

// BusyboxImage is Debian's static busybox with a link for each of its applets.
func BusyboxImage(ctx context.Context) (imagetar.Image, error) {
	image := imagetar.Image{Name: Busybox, Cmd: []string{"sh"}}
	path, err := exec.LookPath("busybox")
	if err != nil {
		return image, errors.New("busybox is missing: install it with apt-get install busybox-static")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return image, err
	}
	applets, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return image, fmt.Errorf("listing the applets of %s: %w", path, err)
	}
	image.Files = append(base(), imagetar.File{Path: "bin/busybox", Mode: 0o755, Data: data})
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet == "busybox" {
			continue
		}
		image.Files = append(image.Files, imagetar.File{
			Path: "bin/" + applet, Mode: fs.ModeSymlink | 0o777, Data: []byte("busybox"),
		})
	}
	return image, nil
}

// WebImage is the steerable server of the web directory, compiled into dir.
func WebImage(ctx context.Context, dir string) (imagetar.Image, error) {
	image := imagetar.Image{Name: Web, Entrypoint: []string{"/web"}}
	binary := filepath.Join(dir, "web")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary,
		"github.com/skiff-k8s/skiff/tests/images/web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return image, fmt.Errorf("compiling the web image's program: %w\n%s", err, out)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return image, err
	}
	image.Files = append(base(), imagetar.File{Path: "web", Mode: 0o755, Data: data})
	return image, nil
}

// base is what programs expect to find in any image.
func base() []imagetar.File {
	return []imagetar.File{
		{Path: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{Path: "root", Mode: fs.ModeDir | 0o700},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// WriteAll writes busybox.tar and web.tar into dir and gives their paths.
func WriteAll(ctx context.Context, dir string) ([]string, error) {
	busybox, err := BusyboxImage(ctx)
	if err != nil {
		return nil, err
	}
	web, err := WebImage(ctx, dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for name, image := range map[string]imagetar.Image{"busybox.tar": busybox, "web.tar": web} {
		path := filepath.Join(dir, name)
		if err := WriteFile(path, image); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, os.Remove(filepath.Join(dir, "web"))
}

// WriteFile writes an archive with one image.
func WriteFile(path string, image imagetar.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(imagetar.Write(f, image), f.Close())
}
