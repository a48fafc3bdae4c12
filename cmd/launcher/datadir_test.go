package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDataDir(t *testing.T) {
	tests := map[string]struct {
		args  []string
		env   map[string]string
		files map[string]string
		want  string
	}{
		"nothing said":                   {want: "/var/lib/skiff"},
		"a long flag":                    {args: []string{"server", "--data-dir", "/a"}, want: "/a"},
		"a long flag with =":             {args: []string{"server", "--data-dir=/a"}, want: "/a"},
		"a short flag":                   {args: []string{"-d", "/a", "server"}, want: "/a"},
		"the last flag wins":             {args: []string{"-d", "/a", "--data-dir=/b"}, want: "/b"},
		"what follows -- is not ours":    {args: []string{"server", "--", "x", "-d", "/a"}, want: "/var/lib/skiff"},
		"kubectl's flags are not ours":   {args: []string{"kubectl", "-d", "/a"}, want: "/var/lib/skiff"},
		"a flag wins over the others":    {args: []string{"-d=/a"}, env: map[string]string{"SKIFF_DATA_DIR": "/b"}, want: "/a"},
		"the environment wins over file": {env: map[string]string{"SKIFF_DATA_DIR": "/b"}, files: map[string]string{"config.yaml": "data-dir: /c"}, want: "/b"},
		"the file":                       {files: map[string]string{"config.yaml": "debug: true\ndata-dir: \"/c\" # disk\n"}, want: "/c"},
		"a drop-in wins over the file":   {files: map[string]string{"config.yaml": "data-dir: /c", "config.yaml.d/10.yaml": "data-dir: /d"}, want: "/d"},
		"a nested key is another key":    {files: map[string]string{"config.yaml": "x:\n  data-dir: /c\n"}, want: "/var/lib/skiff"},
		"a flag without value":           {args: []string{"server", "--data-dir"}, want: "/var/lib/skiff"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tt.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := dataDir(tt.args, func(k string) string { return tt.env[k] }, dir)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
