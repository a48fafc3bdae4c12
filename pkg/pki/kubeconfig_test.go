package pki

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func TestKubeconfigsAreReadByClientGo(t *testing.T) {
	cfg := testConfig(t)
	cfg.Server.Kubeconfig.Name = "home: lab" // wants quoting
	ensure(t, cfg, birthday)
	node := NodeFilesOf(cfg.Node.Layout)
	tests := []struct {
		path, server string
	}{
		{cfg.Server.Layout.Kubeconfig(), "https://127.0.0.1:6443"},
		{node.KubeletConfig, "https://127.0.0.1:6443"},
		{node.ProxyConfig, "https://127.0.0.1:6443"},
		{node.NodeAgentConfig, "https://127.0.0.1:6443"},
	}
	for _, test := range tests {
		t.Run(filepath.Base(test.path), func(t *testing.T) {
			rest, err := clientcmd.BuildConfigFromFlags("", test.path)
			if err != nil {
				t.Fatal(err)
			}
			if rest.Host != test.server {
				t.Errorf("server %s, want %s", rest.Host, test.server)
			}
			cert, key := rest.CertData, rest.KeyData
			if rest.CertFile != "" {
				if cert, err = os.ReadFile(rest.CertFile); err != nil {
					t.Fatal(err)
				}
				if key, err = os.ReadFile(rest.KeyFile); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tls.X509KeyPair(cert, key); err != nil {
				t.Error(err)
			}
			if len(rest.CAData) == 0 && rest.CAFile == "" {
				t.Error("it trusts no CA")
			}
		})
	}
	raw, err := clientcmd.LoadFromFile(cfg.Server.Layout.Kubeconfig())
	if err != nil || raw.CurrentContext != "home: lab" || raw.Contexts["home: lab"] == nil {
		t.Errorf("context %q of %v (%v), want the chosen name", raw.CurrentContext, raw.Contexts, err)
	}
}

func TestTheAdministratorsKubeconfigGoesWhereAndToWhomItIsWanted(t *testing.T) {
	cfg := testConfig(t)
	out := filepath.Join(t.TempDir(), "deep", "kube.yaml")
	cfg.Server.Kubeconfig = config.Kubeconfig{Output: out, Mode: 0o640, Group: "12345"}
	ensure(t, cfg, birthday)
	check := func(mode os.FileMode, gid uint32) {
		t.Helper()
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; info.Mode().Perm() != mode || (os.Geteuid() == 0 && got != gid) {
			t.Errorf("mode %v, group %d; want %v, %d", info.Mode(), got, mode, gid)
		}
	}
	check(0o640, 12345)
	if target, err := os.Readlink(cfg.Server.Layout.Kubeconfig()); err != nil || target != out {
		t.Errorf("the usual place leads to %q (%v), want %s", target, err, out)
	}

	before := snapshot(t, filepath.Dir(out))
	ensure(t, cfg, birthday)
	if after := snapshot(t, filepath.Dir(out)); after[out] != before[out] {
		t.Error("a second start wrote it again")
	}

	cfg.Server.Kubeconfig.Mode, cfg.Server.Kubeconfig.Group = 0o644, "54321"
	ensure(t, cfg, birthday)
	check(0o644, 54321)

	// Back to the usual place: the link gives way to the file.
	cfg.Server.Kubeconfig = config.Kubeconfig{}
	ensure(t, cfg, birthday)
	info, err := os.Lstat(cfg.Server.Layout.Kubeconfig())
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
		t.Errorf("the usual place has %v (%v), want a file with mode 0600", info.Mode(), err)
	}
}

func TestAGroupThatIsNotThereIsNamed(t *testing.T) {
	cfg := testConfig(t)
	cfg.Server.Kubeconfig.Group = "nosuchgroup"
	_, err := Ensure(cfg, birthday, discard())
	if err == nil || !strings.Contains(err.Error(), `no group "nosuchgroup"`) {
		t.Errorf("got %v", err)
	}
}

func TestTheKubeconfigFollowsARenewal(t *testing.T) {
	cfg := testConfig(t)
	ensure(t, cfg, birthday)
	ensure(t, cfg, birthday.Add(300*24*time.Hour))
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Server.Layout.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(ServerFilesOf(cfg.Server.Layout).Admin.Cert)
	if err != nil || string(rest.CertData) != string(want) {
		t.Errorf("it still holds the old certificate (%v)", err)
	}
}

func TestLocalURLIsReachable(t *testing.T) {
	tests := []struct{ name, bind, want string }{
		{"without a bind address", "", "https://127.0.0.1:6443"},
		{"bound to everything", "0.0.0.0", "https://127.0.0.1:6443"},
		{"bound to everything, IPv6 too", "::", "https://127.0.0.1:6443"},
		{"bound to one address", "192.0.2.7", "https://192.0.2.7:6443"},
		{"bound to one IPv6 address", "fd00::7", "https://[fd00::7]:6443"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := config.Listener{Port: 6443}
			if test.bind != "" {
				l.BindAddress = netip.MustParseAddr(test.bind)
			}
			if got := LocalURL(l); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
