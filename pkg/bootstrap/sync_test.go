package bootstrap

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skiff-k8s/skiff/pkg/datastore/sqlite"
)

// startDatastore runs the embedded datastore.
func startDatastore(t *testing.T) *clientv3.Client {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	dir := t.TempDir()
	d := sqlite.New(sqlite.Config{Path: filepath.Join(dir, "state.db"), Socket: filepath.Join(dir, "socket")}, logrus.NewEntry(log))
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- d.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	c, err := d.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.Client
}

func TestDiskAndDatastoreHoldTheSame(t *testing.T) {
	t.Parallel()
	kv := startDatastore(t)
	one := newServer(t, map[string]string{"server/tls/server-ca.key": "1"})
	sync := func(l int, want Outcome) {
		t.Helper()
		got, err := Sync(t.Context(), one, kv, "password")
		if err != nil || got != want {
			t.Fatalf("step %d: %v, %v; want %v", l, got, err, want)
		}
	}
	sync(1, Kept)
	sync(2, Same)

	// The administrator replaces a file on the disk.
	key := filepath.Join(one.Data, "server/tls/server-ca.key")
	if err := os.WriteFile(key, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	sync(3, Kept)

	// Another server does.
	before, err := Load(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal("password", Data{Files: []File{{"server/tls/server-ca.key", []byte("3")}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Save(t.Context(), kv, sealed, before.Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(t.Context(), kv, sealed, before.Revision); !errors.Is(err, ErrConflict) {
		t.Errorf("saving over another's change: %v", err)
	}
	if _, err := Save(t.Context(), kv, sealed, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("saving as if nothing were there: %v", err)
	}
	sync(4, Taken)
	if content, err := os.ReadFile(key); err != nil || string(content) != "3" {
		t.Errorf("the disk has %q, %v; want what the other server saved", content, err)
	}
	sync(5, Same)

	// The token is another one now.
	if got, err := Sync(t.Context(), one, kv, "next"); err != nil || got != Kept {
		t.Fatalf("with the next token: %v, %v", got, err)
	}
	stored, err := Load(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("next", stored.Sealed); err != nil {
		t.Errorf("what is kept does not open with the next token: %v", err)
	}

	// Nobody's machine: which is right is not for a program to say.
	foreign := newServer(t, map[string]string{"server/tls/server-ca.key": "4"})
	if _, err := Sync(t.Context(), foreign, kv, "next"); err == nil || !strings.Contains(err.Error(), "server/tls/server-ca.key") {
		t.Errorf("a foreign server: %v", err)
	}
	if _, err := Sync(t.Context(), foreign, kv, "another"); !errors.Is(err, ErrToken) {
		t.Errorf("a foreign token: %v", err)
	}
}
