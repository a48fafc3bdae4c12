package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// newServer makes a data directory with files, by their paths.
func newServer(t *testing.T, files map[string]string) layout.Layout {
	t.Helper()
	l := layout.Layout{Data: t.TempDir()}
	for path, content := range files {
		name := filepath.Join(l.Data, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func gather(t *testing.T, l layout.Layout) Data {
	t.Helper()
	d, err := Gather(l)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAnotherServerGetsWhatOneHas(t *testing.T) {
	files := map[string]string{
		"server/tls/server-ca.crt": "a certificate", "server/tls/server-ca.key": "hidden key", "server/tls/etcd/peer-ca.key": "hidden, too",
		"server/tls/service.key": "signs", "server/tls/serving-kube-apiserver.key": "this server's own", "server/token": "the token",
	}
	one := newServer(t, files)
	if err := os.Symlink("token", filepath.Join(one.Data, "server/agent-token")); err != nil {
		t.Fatal(err)
	}
	d := gather(t, one)
	sealed, err := Seal("password", d)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("hidden")) {
		t.Error("what is sealed shows a key")
	}
	opened, err := Open("password", sealed)
	if err != nil {
		t.Fatal(err)
	}
	other := newServer(t, nil)
	if err := opened.Write(other); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.WalkDir(other.Data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(other.Data, path)
		got = append(got, fmt.Sprintf("%s %04o %s", rel, info.Mode().Perm(), content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"server/tls/etcd/peer-ca.key 0600 hidden, too",
		"server/tls/server-ca.crt 0644 a certificate",
		"server/tls/server-ca.key 0600 hidden key",
		"server/tls/service.key 0600 signs",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the other server has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if text := fmt.Sprintf("%v %+v %#v", d, d, d); strings.Contains(text, "hidden") {
		t.Errorf("printing shows a key: %s", text)
	}
}

func TestSealedDataDoesNotOpenOtherwise(t *testing.T) {
	d := Data{Files: []File{{"server/tls/service.key", []byte("signs")}}}
	sealed, err := Seal("password", d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("another", sealed); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "--token") {
		t.Errorf("another token: %v", err)
	}
	for _, at := range []int{len(sealed) - 1, bytes.IndexByte(sealed[len(magic):], '\n') + len(magic) + 1} {
		changed := bytes.Clone(sealed)
		changed[at] ^= 1
		if _, err := Open("password", changed); !errors.Is(err, ErrToken) {
			t.Errorf("with byte %d changed: %v", at, err)
		}
	}
	// A header that asks for more passes than were made is part of what is authenticated.
	if _, err := Open("password", bytes.Replace(sealed, []byte(`"passes":3`), []byte(`"passes":4`), 1)); !errors.Is(err, ErrToken) {
		t.Errorf("with another header: %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), []byte(magic), []byte(magic + "{}\n"), sealed[:len(magic)+5],
		bytes.Replace(sealed, []byte(`"kib":32768`), []byte(`"kib":4194304000`), 1)} {
		if _, err := Open("password", bad); !errors.Is(err, errNotSealed) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	next, err := Reseal("password", "next", sealed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("password", next); !errors.Is(err, ErrToken) {
		t.Errorf("the old token still opens: %v", err)
	}
	if got, err := Open("next", next); err != nil || got.Digest() != d.Digest() {
		t.Errorf("the next token: %v %v", got, err)
	}
}

func TestFilesThatAreNoKeysAreNotWritten(t *testing.T) {
	l := newServer(t, nil)
	d := Data{Files: []File{{"../escaped", []byte("x")}}}
	if err := d.Write(l); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("got %v", err)
	}
	sealed, err := Seal("password", d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("password", sealed); err == nil {
		t.Error("such data opens")
	}
}
