// Command pack puts files at the end of executables, where package embedded
// finds them, and builds image archives. Build scripts run it.
//
//	pack helpers BASE DIR OUT      OUT is BASE carrying the helper programs in DIR
//	pack program BASE PROGRAM OUT  OUT is BASE, a launcher, carrying PROGRAM
//
// DIR/* and PROGRAM have their compressed form, *.zst, beside them.
//
//	pack image NAME PROGRAM OUT    OUT is an archive of an image that runs PROGRAM
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/embedded/pack"
	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("want: helpers BASE DIR OUT, program BASE PROGRAM OUT, or image NAME PROGRAM OUT")
	}
	switch command, first, second, out := args[0], args[1], args[2], args[3]; command {
	case "helpers":
		return helpers(first, second, out)
	case "program":
		return program(first, second, out)
	case "image":
		return image(first, second, out)
	default:
		return fmt.Errorf("there is no command %q", command)
	}
}

// cniPlugins are the names that the program cni answers to.
var cniPlugins = append(embedded.CNIPlugins(), "bandwidth")

func helpers(base, dir, out string) error {
	var files []pack.File
	for _, name := range []string{"runc", "containerd-shim-runc-v2", "cni"} {
		f, err := compressed("bin/"+name, filepath.Join(dir, name))
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for _, name := range cniPlugins {
		files = append(files, pack.File{Name: "bin/" + name, Mode: fs.ModeSymlink | 0o777, Data: []byte("cni")})
	}
	pause, err := buildImage(embedded.PauseImageName, filepath.Join(dir, "pause"))
	if err != nil {
		return err
	}
	files = append(files, pack.File{Name: "images/pause.tar", Mode: 0o644, Data: pause})
	return pack.AppendFile(out, base, "helpers", files)
}

func program(base, path, out string) error {
	f, err := compressed("bin/skiff", path)
	if err != nil {
		return err
	}
	return pack.AppendFile(out, base, "program", []pack.File{f})
}

// compressed reads a program and, beside it, what zstd made of it.
func compressed(name, path string) (pack.File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return pack.File{}, err
	}
	packed, err := os.ReadFile(path + ".zst")
	return pack.File{Name: name, Mode: 0o755, Data: data, Packed: packed}, err
}

func image(name, path, out string) error {
	data, err := buildImage(name, path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, data, 0o644)
}

// buildImage makes an image whose only file is a static program.
func buildImage(name, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	entry := "/" + filepath.Base(path)
	var archive bytes.Buffer
	err = imagetar.Write(&archive, imagetar.Image{
		Name:       name,
		Files:      []imagetar.File{{Path: entry, Mode: 0o755, Data: data}},
		Entrypoint: []string{entry},
		User:       "65535:65535",
	})
	return archive.Bytes(), err
}
