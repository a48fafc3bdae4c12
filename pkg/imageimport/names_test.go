package imageimport

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func TestNamesOfImagesWithoutAFullOne(t *testing.T) {
	for name, c := range map[string]struct{ file, ref, want string }{
		"a full name stays":                 {"x.tar", "registry.example:5000/a/b:1", "registry.example:5000/a/b:1"},
		"a short one gets Docker's domain":  {"x.tar", "busybox:1", "docker.io/library/busybox:1"},
		"a path gets the tag latest":        {"x.tar", "me/app", "docker.io/me/app:latest"},
		"a tag goes behind the file's name": {"app.tar.gz", "v1.2", "docker.io/library/app:v1.2"},
		"no name at all stays none":         {"app.tar", "", ""},
		"odd characters are replaced":       {"My App (2).tar", "v1", "docker.io/library/my-app-2:v1"},
		"a file without letters is named":   {"___.tar", "v1", "docker.io/library/archive:v1"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &namer{stem: imageName(stem("/images/" + c.file))}
			if got := n.translate(c.ref); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("several nameless ones differ", func(t *testing.T) {
		n := &namer{stem: "app"}
		d := digest.FromString("x")
		first, second := n.nameless(d), n.nameless(d)
		if first != "docker.io/library/app:latest" || second != "docker.io/library/app:"+d.Encoded()[:12] {
			t.Errorf("got %q and %q", first, second)
		}
	})
}

func TestWhatIsAnArchive(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.tar", "b.tgz", "c.tar.gz", "d.tar.zst", "e.tzst", ".f.tar", "g.tar.part", "h.txt", "i.tar.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "j.tar"), 0o700); err != nil {
		t.Fatal(err)
	}
	found, err := archives(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range sorted(found) {
		got = append(got, filepath.Base(p))
	}
	if want := []string{"a.tar", "b.tgz", "c.tar.gz", "d.tar.zst", "e.tzst"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDecompressionLooksAtTheContent(t *testing.T) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		err  string
	}{
		"plain":     {[]byte("plain text"), ""},
		"zstandard": {w.EncodeAll([]byte("plain text"), nil), ""},
		"too short": {[]byte("ab"), "cut short"},
		"broken":    {[]byte("\x1f\x8bnothing of what should be there"), "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := decompress(bytes.NewReader(c.data))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q in it", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || string(got) != "plain text" {
				t.Errorf("got %q (%v)", got, err)
			}
		})
	}
}

func TestADamagedRecordIsOnlyForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.json")
	if r, err := loadRecord(path); err != nil || r.Archives == nil {
		t.Errorf("without one: %v (%v)", r, err)
	}
	for _, content := range []string{"", "{", `{"archives":null}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := loadRecord(path); err == nil || r.Archives == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("with %q: %v (%v)", content, r, err)
		}
	}
}
