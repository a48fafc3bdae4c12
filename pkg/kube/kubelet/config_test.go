package kubelet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{
		NodeName:        "one",
		NodeIPs:         []netip.Addr{netip.MustParseAddr("10.1.2.3")},
		ClusterDNS:      []netip.Addr{netip.MustParseAddr("169.254.20.10")},
		ClusterDomain:   "cluster.local",
		RuntimeEndpoint: "unix:///run/skiff/containerd/containerd.sock",
		CgroupDriver:    "cgroupfs",
		CgroupV1:        true,
		Privileged:      true,
		DropInDir:       filepath.Join(dir, "kubelet.conf.d"),
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

const header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func TestWithoutTheUserTheKubeletIsClosedToStrangers(t *testing.T) {
	s, err := kubeletServer(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.Authentication.Anonymous.Enabled || !s.Authentication.Webhook.Enabled || s.Authorization.Mode != "Webhook" || s.ReadOnlyPort != 0 || s.HealthzPort != 0 {
		t.Errorf("anonymous %v, webhook %v, authorization %q, read-only port %d, health port %d",
			s.Authentication.Anonymous.Enabled, s.Authentication.Webhook.Enabled, s.Authorization.Mode, s.ReadOnlyPort, s.HealthzPort)
	}
	if s.FailCgroupV1 {
		t.Error("the kubelet refuses a host with cgroup version 1")
	}
	if s.CloudProvider != "" {
		t.Errorf("cloud provider %q: the kubelet would wait for addresses that nobody sets", s.CloudProvider)
	}
}

func TestOnlyANodeThatIsAloneRenewsItsLeaseRarely(t *testing.T) {
	for alone, want := range map[bool]int32{false: 40, true: aloneLeaseSeconds} {
		cfg := testConfig(t)
		cfg.Alone = alone
		s, err := kubeletServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if s.NodeLeaseDurationSeconds != want {
			t.Errorf("alone %v: a lease of %d s, want %d", alone, s.NodeLeaseDurationSeconds, want)
		}
	}
}

func TestFilesAndArgumentsWinInTheirOrder(t *testing.T) {
	cfg := testConfig(t)
	file := filepath.Join(t.TempDir(), "kubelet.yaml")
	write(t, file, header+"maxPods: 10\npodPidsLimit: 100\nimageGCHighThresholdPercent: 90\n")
	write(t, filepath.Join(cfg.DropInDir, "20-later.conf"), header+"podPidsLimit: 300\n")
	write(t, filepath.Join(cfg.DropInDir, "10-first.conf"), header+"podPidsLimit: 200\nmaxPods: 20\n")
	write(t, filepath.Join(cfg.DropInDir, "notes.txt"), "not configuration")
	cfg.ExtraArgs = []string{"config=" + file, "--max-pods=30"}
	s, err := kubeletServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.MaxPods != 30 || s.PodPidsLimit != 300 || s.ImageGCHighThresholdPercent != 90 {
		t.Errorf("maxPods %d, podPidsLimit %d, imageGCHighThresholdPercent %d: want 30 (argument), 300 (the later file), 90 (the named file)",
			s.MaxPods, s.PodPidsLimit, s.ImageGCHighThresholdPercent)
	}
	if s.ClusterDomain != "cluster.local" || len(s.EvictionHard) == 0 {
		t.Errorf("what no file names has changed: domain %q, eviction %v", s.ClusterDomain, s.EvictionHard)
	}
}

func TestMistakesInFilesAreNamed(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"a misspelt field":    {header + "maxPod: 10\n", `unknown field "maxPod"`},
		"another kind":        {"apiVersion: v1\nkind: Pod\n", "wants apiVersion"},
		"no kind":             {"maxPods: 10\n", "wants apiVersion"},
		"a value of no sense": {header + "maxPods: -1\n", "maxPods"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			write(t, filepath.Join(cfg.DropInDir, "10-mine.conf"), tc.content)
			_, err := kubeletServer(cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v: want it to speak of %q", err, tc.want)
			}
		})
	}
}

func TestAnUnknownArgumentIsRefused(t *testing.T) {
	cfg := testConfig(t)
	cfg.ExtraArgs = []string{"no-such-thing=1"}
	if _, err := kubeletServer(cfg); err == nil || !strings.Contains(err.Error(), "kubelet-arg") {
		t.Errorf("error %v: want one that names kubelet-arg", err)
	}
}
