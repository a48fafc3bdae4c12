package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
	"github.com/skiff-k8s/skiff/tests/images"
)

// writeImages writes two archives into a new directory: the image of the test
// pods, and the pause image, which Skiff carries inside.
func writeImages(ctx context.Context) ([]string, error) {
	dir, err := os.MkdirTemp("", "skiff-bench-")
	if err != nil {
		return nil, err
	}
	busybox, err := images.BusyboxImage(ctx)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile("bin/payload/pause")
	if err != nil {
		return nil, err
	}
	pause := imagetar.Image{
		Name: pauseImage, Entrypoint: []string{"/pause"},
		Files: []imagetar.File{{Path: "pause", Mode: fs.FileMode(0o755), Data: program}},
	}
	var paths []string
	for _, a := range []struct {
		file  string
		image imagetar.Image
	}{{"busybox.tar", busybox}, {"pause.tar", pause}} {
		path := filepath.Join(dir, a.file)
		if err := images.WriteFile(path, a.image); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
