package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, path string) (string, fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), info.Mode()
}

func TestWrite(t *testing.T) {
	tests := []struct {
		name string
		old  string // empty: no file
		mode fs.FileMode
	}{
		{"a new file gets the mode although the umask would forbid it", "", 0o666},
		{"an existing file is replaced with its mode", "before", 0o600},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if tt.old != "" {
				if err := os.WriteFile(path, []byte(tt.old), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := Write(path, []byte("after"), tt.mode); err != nil {
				t.Fatal(err)
			}
			if data, mode := read(t, path); data != "after" || mode != tt.mode {
				t.Errorf("the file holds %q with mode %v, want %q with %v", data, mode, "after", tt.mode)
			}
			onlyFile(t, dir)
		})
	}
}

func onlyFile(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the directory holds %v, want the one file", entries)
	}
}

func TestWriteFailing(t *testing.T) {
	t.Run("a missing directory is named and nothing is made", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing", "file")
		err := Write(path, nil, 0o600)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error is %v, want one that names %s", err, path)
		}
	})
	t.Run("a path that cannot be replaced leaves no temporary file", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "is-a-directory")
		if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, []byte("x"), 0o600); err == nil {
			t.Error("a directory was replaced with a file")
		}
		onlyFile(t, dir)
	})
}

func TestWriteIfChanged(t *testing.T) {
	tests := []struct {
		name        string
		data        string
		mode        fs.FileMode
		wantChanged bool
	}{
		{"the same content leaves the file alone", "same", 0o600, false},
		{"the same content with another mode gets the mode", "same", 0o640, false},
		{"other content of the same length is written", "diff", 0o600, true},
		{"longer content is written", "same and more", 0o600, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("same"), 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			changed, err := WriteIfChanged(path, []byte(tt.data), tt.mode)
			if err != nil {
				t.Fatal(err)
			}
			after, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if changed != tt.wantChanged || os.SameFile(before, after) == tt.wantChanged {
				t.Errorf("changed is %v and the same file is there: %v; want changed %v", changed, os.SameFile(before, after), tt.wantChanged)
			}
			if data, mode := read(t, path); data != tt.data || mode != tt.mode {
				t.Errorf("the file holds %q with mode %v, want %q with %v", data, mode, tt.data, tt.mode)
			}
		})
	}
	t.Run("a link is replaced, not followed", func(t *testing.T) {
		dir := t.TempDir()
		target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
		if err := os.WriteFile(target, []byte("same"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if _, err := WriteIfChanged(link, []byte("same"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, mode := read(t, link); !mode.IsRegular() {
			t.Errorf("%s is still %v", link, mode)
		}
		if _, mode := read(t, target); mode != 0o644 {
			t.Errorf("the link's target has mode %v now", mode)
		}
	})
}
