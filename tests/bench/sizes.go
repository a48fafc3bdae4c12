package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// sizes adds up the files that are installed: for Skiff one program and what it
// has unpacked from itself, and the file to download if make dist has made it;
// for stock its programs.
func sizes(_ context.Context, s system, _ options, record recorder) error {
	sum := 0.0
	for _, path := range s.Installed() {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		sum += float64(info.Size())
	}
	record(value{"size/programs", "Size: programs", "MB", sum / 1e6})
	if !isSkiff(s) {
		record(value{"size/installed", "Size: installed", "MB", sum / 1e6})
		return nil
	}
	unpacked, err := treeSize(s.Host().Path("/var/lib/skiff/data"))
	if err != nil {
		return err
	}
	record(value{"size/installed", "Size: installed", "MB", (sum + unpacked) / 1e6})
	return download(s.Installed()["skiff"], record)
}

// download records the file to release unless it was made of an older program.
func download(program string, record recorder) error {
	built, err := os.Stat(program)
	if err != nil {
		return err
	}
	info, err := os.Stat("dist/skiff-linux-" + runtime.GOARCH)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().Before(built.ModTime()) {
		return nil
	}
	if err != nil {
		return err
	}
	record(value{"size/download", "Size: file to download", "MB", float64(info.Size()) / 1e6})
	return nil
}

// treeSize is the size in bytes of the regular files below a directory.
func treeSize(root string) (float64, error) {
	sum := 0.0
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	return sum, err
}
