package images

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"slices"
	"testing"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

func TestPackagesBecomeFiles(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/share/doc/x/copyright", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./usr/bin/x", Typeflag: tar.TypeReg, Mode: 0o755, Size: 3},
		{Name: "./usr/bin/y", Typeflag: tar.TypeLink, Linkname: "./usr/bin/x", Mode: 0o755},
		{Name: "./bin/sh", Typeflag: tar.TypeSymlink, Linkname: "dash", Mode: 0o777},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := files{}.add(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(f) != 3 {
		t.Errorf("there are %d files, want those of the program, its hard link and the shell", len(f))
	}
	if got := string(f.data("usr/bin/y")); got != "abc" {
		t.Errorf("the hard link has the content %q", got)
	}
	if got := string(f.data("bin/sh")); got != "dash" {
		t.Errorf("the shell is a link to %q", got)
	}
}

func TestAppletsLeavePackagesTheirNames(t *testing.T) {
	at := byPath(withApplets(withBash(files{{Path: "bin/bash", Mode: 0o755}, {Path: "usr/bin/awk", Mode: 0o755}})))
	if sh := at["bin/sh"]; len(sh) != 1 || string(sh[0].Data) != "bash" {
		t.Errorf("the shell is %v", sh)
	}
	if len(at["bin/awk"]) != 0 {
		t.Error("an applet hides the package's awk")
	}
	if ls := at["bin/ls"]; len(ls) != 1 || ls[0].Mode.Type() != fs.ModeSymlink || string(ls[0].Data) != "busybox" {
		t.Errorf("ls is no applet: %v", ls)
	}
}

// The tests call busybox by its path and bash by the name alone.
func TestBusyboxHasTwoShells(t *testing.T) {
	at := byPath(withApplets(withAsh(nil)))
	for path, want := range map[string]string{"bin/sh": "busybox", "usr/local/bin/sh": "/bin/bash"} {
		if sh := at[path]; len(sh) != 1 || string(sh[0].Data) != want {
			t.Errorf("%s is %v, want a link to %s", path, sh, want)
		}
	}
}

func byPath(all files) map[string][]imagetar.File {
	at := map[string][]imagetar.File{}
	for _, f := range all {
		at[f.Path] = append(at[f.Path], f)
	}
	return at
}

func TestMinimalFiles(t *testing.T) {
	f := files{
		{Path: "bin/busybox"}, {Path: "bin/bash"}, {Path: "bin/bashbug"}, {Path: "lib64/ld-linux-x86-64.so.2"},
		{Path: "lib/ld-linux-aarch64.so.1"}, {Path: "lib/x86_64-linux-gnu/libc.so.6"}, {Path: "lib/x86_64-linux-gnu/libc_malloc_debug.so.0"},
		{Path: "usr/lib/x86_64-linux-gnu/libtinfo.so.6.4"}, {Path: "lib/x86_64-linux-gnu/libtinfo.so.6"}, {Path: "usr/bin/dig"},
	}
	var dropped []string
	kept := only(f, minimal)
	for _, file := range f {
		if !slices.ContainsFunc(kept, func(k imagetar.File) bool { return k.Path == file.Path }) {
			dropped = append(dropped, file.Path)
		}
	}
	if want := []string{"bin/bashbug", "lib/x86_64-linux-gnu/libc_malloc_debug.so.0", "usr/bin/dig"}; !slices.Equal(dropped, want) {
		t.Errorf("left out are %q, want %q", dropped, want)
	}
}
