package embedded_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/embedded/pack"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func helperFiles(release string) []pack.File {
	return []pack.File{
		{Name: "bin/runc", Mode: 0o755, Data: []byte("#!/bin/sh\necho runc " + release + "\n")},
		{Name: "bin/containerd-shim-runc-v2", Mode: 0o755, Data: []byte(strings.Repeat("shim ", 1<<16))},
		{Name: "bin/cni", Mode: 0o755, Data: []byte("cni " + release)},
		{Name: "bin/bridge", Mode: fs.ModeSymlink | 0o777, Data: []byte("cni")},
		{Name: "images/pause.tar", Mode: 0o644, Data: []byte("image")},
	}
}

// executable makes a file that carries the files, as the build does.
func executable(t *testing.T, set string, files []pack.File) string {
	t.Helper()
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, []byte("\x7fELF is not looked at"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := base + "-packed"
	if err := pack.AppendFile(out, base, set, files); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, path string) *embedded.Payload {
	t.Helper()
	p, err := embedded.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func unpack(t *testing.T, l layout.Layout, set string, files []pack.File) string {
	t.Helper()
	root, err := open(t, executable(t, set, files)).Unpack(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func testLayout(t *testing.T) layout.Layout { return layout.Layout{Data: t.TempDir()} }

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestHelpersAreUnpackedWithContentAndModes(t *testing.T) {
	l := testLayout(t)
	p := open(t, executable(t, "helpers", helperFiles("1")))
	dir, err := p.Helpers(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(dir.Runc()).CombinedOutput()
	if err != nil || string(out) != "runc 1\n" {
		t.Fatalf("running the unpacked runc: %q, %v", out, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir.CNIBin(), "bridge")); err != nil || string(data) != "cni 1" {
		t.Errorf("the plugin's link: %q, %v", data, err)
	}
	for path, want := range map[string]fs.FileMode{dir.Shim(): 0o755, dir.PauseImage(): 0o644} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	if target, err := os.Readlink(filepath.Join(l.Payload(), "helpers")); err != nil || target != p.ID().Key {
		t.Errorf("link to the newest helpers: %q, %v; want %s", target, err, p.ID().Key)
	}
}

func TestSecondUnpackWritesNothing(t *testing.T) {
	l := testLayout(t)
	first := unpack(t, l, "helpers", helperFiles("1"))
	before, err := os.Stat(filepath.Join(first, "bin", "runc"))
	if err != nil {
		t.Fatal(err)
	}
	again := unpack(t, l, "helpers", helperFiles("1"))
	after, err := os.Stat(filepath.Join(again, "bin", "runc"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the same content was unpacked again")
	}
}

func TestSeveralAtOnceGetOneCompleteSet(t *testing.T) {
	l := testLayout(t)
	path := executable(t, "helpers", helperFiles("1"))
	var wg sync.WaitGroup
	for range 8 {
		p := open(t, path)
		wg.Go(func() {
			root, err := p.Unpack(t.Context(), l)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(root, "images", "pause.tar")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := names(t, l.Payload()); len(got) != 3 { // .lock, the set, the link to it
		t.Errorf("the directory holds %q", got)
	}
}

func TestDamageIsMended(t *testing.T) {
	tests := map[string]func(root string) error{
		"a file is gone":                func(root string) error { return os.Remove(filepath.Join(root, "bin", "runc")) },
		"a file was cut short":          func(root string) error { return os.Truncate(filepath.Join(root, "bin", "runc"), 3) },
		"a link became a file":          func(root string) error { return replaceByFile(filepath.Join(root, "bin", "bridge")) },
		"everything was removed":        os.RemoveAll,
		"an earlier unpack was stopped": func(root string) error { return interrupt(root) },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			l := testLayout(t)
			root := unpack(t, l, "helpers", helperFiles("1"))
			if err := damage(root); err != nil {
				t.Fatal(err)
			}
			root = unpack(t, l, "helpers", helperFiles("1"))
			out, err := exec.Command(filepath.Join(root, "bin", "runc")).CombinedOutput()
			if err != nil || string(out) != "runc 1\n" {
				t.Fatalf("running runc afterwards: %q, %v", out, err)
			}
			if got := names(t, l.Payload()); len(got) != 3 {
				t.Errorf("the directory holds %q", got)
			}
		})
	}
}

func replaceByFile(path string) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, []byte("cni"), 0o755))
}

// interrupt leaves what a kill in the middle of unpacking does.
func interrupt(root string) error {
	temp := filepath.Join(filepath.Dir(root), ".tmp-"+filepath.Base(root))
	return errors.Join(os.Rename(root, temp), os.Truncate(filepath.Join(temp, "bin", "runc"), 1))
}

func TestUpgradeKeepsWhatIsUsed(t *testing.T) {
	l := testLayout(t)
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	running := helperFiles("running")
	running[0].Data = sleep
	first := unpack(t, l, "helpers", running)
	pod := exec.CommandContext(t.Context(), filepath.Join(first, "bin", "runc"), "60")
	if err := pod.Start(); err != nil {
		t.Fatal(err)
	}
	second := unpack(t, l, "helpers", helperFiles("2"))
	third := unpack(t, l, "helpers", helperFiles("3"))
	other := unpack(t, l, "program", helperFiles("4"))
	fourth := unpack(t, l, "helpers", helperFiles("5"))
	got := names(t, l.Payload())
	for reason, root := range map[string]string{"running": first, "previous": third, "current": fourth, "of another set": other} {
		if !slices.Contains(got, filepath.Base(root)) {
			t.Errorf("the set that is %s was removed", reason)
		}
	}
	if slices.Contains(got, filepath.Base(second)) {
		t.Error("a set that nothing uses was kept")
	}
	pod.Process.Kill()
	pod.Wait()
	unpack(t, l, "helpers", helperFiles("6"))
	if slices.Contains(names(t, l.Payload()), filepath.Base(first)) {
		t.Error("the set was kept after its last process had ended")
	}
}

func TestWrongExecutablesAreRefused(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("no archive here"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.OpenFile(plain); !errors.Is(err, embedded.ErrNone) {
		t.Errorf("an executable without payload: %v", err)
	}
	path := executable(t, "helpers", helperFiles("1"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("echo runc")) // too short to be compressed
	if at < 0 {
		t.Fatal("the content of runc is not to be seen in the archive")
	}
	data[at] ^= 0xff
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	l := testLayout(t)
	if root, err := open(t, path).Unpack(t.Context(), l); err == nil {
		t.Errorf("a damaged payload was unpacked into %s", root)
	}
	if got := names(t, l.Payload()); len(got) != 1 { // .lock
		t.Errorf("a failed unpacking left %q", got)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	a, err := os.ReadFile(executable(t, "helpers", helperFiles("1")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(executable(t, "helpers", helperFiles("1")))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a, b) {
		t.Error("packing the same files twice gave different executables")
	}
}

func TestWithoutPayloadTheErrorNamesTheRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := embedded.Find(t.Context(), testLayout(t))
	if err == nil {
		t.Fatal("a machine without helper programs was accepted")
	}
	for _, want := range []string{"runc", "containerd-shim-runc-v2", "make build"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}
