package unixsocket

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shortDir is a temporary directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skiff")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestListen(t *testing.T) {
	t.Run("the socket has the mode asked for and goes away when closed", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "a.sock")
		listener, err := Listen(t.Context(), path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there (%v)", err)
		}
	})
	t.Run("a socket that nobody listens on is replaced", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "a.sock")
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()
		listener, err := Listen(t.Context(), path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
	})
	refusals := []struct {
		name string
		make func(t *testing.T, path string)
		path string
		want string
	}{
		{"a socket that somebody listens on is left alone", func(t *testing.T, path string) {
			first, err := Listen(t.Context(), path, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = first.Close() })
		}, "a.sock", "another process listens on"},
		{"a file is left alone", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "a.sock", "is in the way"},
		{"a path that is too long says so", func(*testing.T, string) {}, strings.Repeat("x", 120), "the kernel allows 107"},
		{"a missing directory is named", func(*testing.T, string) {}, "missing/a.sock", "missing/a.sock"},
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), tt.path)
			tt.make(t, path)
			_, err := Listen(t.Context(), path, 0o600)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
