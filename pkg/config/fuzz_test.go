package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad holds the loader to what it promises of any file: it ends in a
// configuration or in problems that name their place, and what it accepts and
// shows it accepts again.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "debug: true", "node-label: [a=b, 'c=d']\nnode-label+: e=f", "cluster-cidr: 10.0.0.0/8,fd00::/56",
		"a: &x [1]\nb: *x", "- 1", "v: {a: b}", "kubelet-arg:\n- feature-gates=A=true\n- =", "\x00", "v: 1\nv: 2", "? [a]\n: b",
		"node-taint: ':NoSchedule'", "node-taint: [':']", "service-cidr: ['0.0.0.0/0', '::/0']", "cluster-dns: [::, 1.1.1.1]",
		"write-kubeconfig-mode: 0o600", "&a a: *a", "node-ip: ::1\nadvertise-address: 10.43.0.1",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Input{ConfigFile: path, Hostname: func() (string, error) { return "edge1", nil }})
		if err == nil {
			return
		}
		problems, ok := errors.AsType[Problems](err)
		if !ok {
			t.Fatalf("%T is not Problems", err)
		}
		for _, p := range problems {
			if p.Message == "" || p.where() == "" {
				t.Errorf("a problem without place or message: %+v", p)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("debug: true\nnode-label: [a=b]\nkubelet-arg: [max-pods=200]\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	environ := os.Environ()
	for b.Loop() {
		if _, err := Load(Input{ConfigFile: path, Environ: environ}); err != nil {
			b.Fatal(err)
		}
	}
}
