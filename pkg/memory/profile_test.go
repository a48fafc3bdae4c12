package memory

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func TestEveryProfileIsKnown(t *testing.T) {
	for _, p := range config.Profiles() {
		if collectors()[p] == (Collector{}) && p != auto {
			t.Errorf("profile %s has no settings", p)
		}
	}
	for p := range collectors() {
		if !slices.Contains(config.Profiles(), p) {
			t.Errorf("profile %s cannot be chosen", p)
		}
	}
}

func TestAProfileFitsTheHost(t *testing.T) {
	const mib = "1048576\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a board that is sold with 1 GiB", map[string]string{"proc/meminfo": "MemTotal:  947388 kB\nMemFree: 1 kB\n"}, tiny},
		{"a board that is sold with 2 GiB", map[string]string{"proc/meminfo": "MemTotal: 1945644 kB\n"}, small},
		{"a board that is sold with 4 GiB", map[string]string{"proc/meminfo": "MemTotal: 3884356 kB\n"}, ordinary},
		{"nothing is known", nil, ordinary},
		{"a unit with MemoryMax=", map[string]string{
			"proc/meminfo":     "MemTotal: 16000000 kB\n",
			"proc/self/cgroup": "0::/system.slice/skiff.service\n",
			"sys/fs/cgroup/system.slice/skiff.service/memory.max": "943718400\n",
			"sys/fs/cgroup/system.slice/memory.max":               "max\n",
		}, tiny},
		{"a limit further up", map[string]string{
			"proc/meminfo":     "MemTotal: 16000000 kB\n",
			"proc/self/cgroup": "0::/system.slice/skiff.service\n",
			"sys/fs/cgroup/system.slice/skiff.service/memory.max": "max\n",
			"sys/fs/cgroup/system.slice/memory.max":               "1610612736\n",
		}, small},
		{"a container's own cgroup", map[string]string{
			"proc/meminfo": "MemTotal: 16000000 kB\n", "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": mib,
		}, tiny},
		{"version 1", map[string]string{
			"proc/meminfo":     "MemTotal: 16000000 kB\n",
			"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": mib,
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
		}, tiny},
		{"version 1 without a limit", map[string]string{
			"proc/meminfo":     "MemTotal: 16000000 kB\n",
			"proc/self/cgroup": "4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
		}, ordinary},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range tc.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := fitting(available(root)); got != tc.want {
				t.Errorf("profile %s, want %s", got, tc.want)
			}
		})
	}
}
