package hostaddr

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// resolverHost is a root directory with files in it.
func resolverHost(t *testing.T, files map[string]string) ResolverConfig {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		putFile(t, filepath.Join(root, path), content)
	}
	return ResolverConfig{
		root:   root,
		Layout: layout.Layout{Data: filepath.Join(root, "data")},
		Own:    []netip.Addr{netip.MustParseAddr("169.254.20.10"), netip.MustParseAddr("10.43.0.10")},
	}
}

// putFile replaces a file by renaming, as programs that write resolv.conf do.
func putFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func servers(r Resolvers) string {
	var list []string
	for _, s := range r.Nameservers {
		list = append(list, s.String())
	}
	return strings.Join(list, " ")
}

func TestUpstreamResolversAreFoundWithoutLoops(t *testing.T) {
	const stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"
	tests := []struct {
		name     string
		files    map[string]string
		path     string
		want     string
		wantPath string // empty: one of our own, with wantOwn
		wantOwn  []string
		warning  string
	}{
		{name: "a plain file is used as it is", files: map[string]string{"/etc/resolv.conf": "# home\nnameserver 192.0.2.1\nnameserver fd00::1\nsearch home.arpa\noptions ndots:2\n"},
			want: "192.0.2.1:53 [fd00::1]:53", wantPath: "/etc/resolv.conf"},
		{name: "behind systemd-resolved's stub", files: map[string]string{"/etc/resolv.conf": stub, "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.2\n"},
			want: "192.0.2.2:53", wantPath: "/run/systemd/resolve/resolv.conf"},
		{name: "behind NetworkManager's dnsmasq", files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/run/NetworkManager/no-stub-resolv.conf": "nameserver 192.0.2.3\n"},
			want: "192.0.2.3:53", wantPath: "/run/NetworkManager/no-stub-resolv.conf"},
		{name: "a file of systemd-resolved that nobody uses is not read", files: map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1\n", "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.2\n"},
			want: "192.0.2.1:53", wantPath: "/etc/resolv.conf"},
		{name: "a stub and nothing behind it", files: map[string]string{"/etc/resolv.conf": stub, "/run/systemd/resolve/resolv.conf": "# nothing\n"},
			wantOwn: []string{"options edns0 trust-ad"}, warning: "/etc/resolv.conf names no server that could be asked"},
		{name: "our own addresses are dropped", files: map[string]string{"/etc/resolv.conf": "nameserver 169.254.20.10\nnameserver 192.0.2.1\nsearch cluster.local\n"},
			want: "192.0.2.1:53", wantOwn: []string{"nameserver 192.0.2.1", "search cluster.local"}},
		{name: "an offline device has none", files: nil, wantOwn: []string{"# Written by Skiff"}, warning: "will not resolve"},
		{name: "the zero address is the loopback too", files: map[string]string{"/etc/resolv.conf": "nameserver 0.0.0.0\n"},
			wantOwn: []string{"#"}, warning: "will not resolve"},
		{name: "no more than three are read", files: map[string]string{"/etc/resolv.conf": strings.Repeat("nameserver 192.0.2.1\n", 5)},
			want: "192.0.2.1:53 192.0.2.1:53 192.0.2.1:53", wantPath: "/etc/resolv.conf"},
		{name: "the user's file", path: "/opt/dns.conf", files: map[string]string{"/etc/resolv.conf": stub, "/opt/dns.conf": "nameserver 192.0.2.9\n"},
			want: "192.0.2.9:53", wantPath: "/opt/dns.conf"},
		{name: "the user's own resolver on this host serves our DNS and not pods", path: "/opt/dns.conf", files: map[string]string{"/opt/dns.conf": "nameserver 127.0.0.1\nnameserver 192.0.2.9\n"},
			want: "127.0.0.1:53 192.0.2.9:53", wantOwn: []string{"nameserver 192.0.2.9"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := resolverHost(t, test.files)
			cfg.Path = test.path
			r, err := FindResolvers(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := servers(r); got != test.want {
				t.Errorf("asks %q, want %q", got, test.want)
			}
			if (test.warning == "") != (r.Warning == "") || !strings.Contains(r.Warning, test.warning) {
				t.Errorf("warns %q, want %q", r.Warning, test.warning)
			}
			if test.wantPath != "" {
				if r.Path != test.wantPath {
					t.Errorf("the kubelet is given %s, want %s", r.Path, test.wantPath)
				}
				return
			}
			own, err := os.ReadFile(r.Path)
			if err != nil || r.Path != cfg.Layout.AgentEtc("resolv.conf") {
				t.Fatalf("the kubelet is given %s (%v)", r.Path, err)
			}
			for _, line := range test.wantOwn {
				if !strings.Contains(string(own), line) {
					t.Errorf("our file lacks %q:\n%s", line, own)
				}
			}
			for _, address := range []string{"127.0.0", "0.0.0.0", "169.254.20.10"} {
				if strings.Contains(string(own), address) {
					t.Errorf("our file names %s:\n%s", address, own)
				}
			}
		})
	}
}

func TestAFileThatTheUserNamedMustBeThere(t *testing.T) {
	cfg := resolverHost(t, nil)
	cfg.Path = "/opt/missing.conf"
	if _, err := FindResolvers(cfg); err == nil || !strings.Contains(err.Error(), "resolv-conf: ") || !strings.Contains(err.Error(), "/opt/missing.conf") {
		t.Errorf("got %v", err)
	}
}

func TestResolversAreFollowed(t *testing.T) {
	cfg := resolverHost(t, nil)
	etc := filepath.Join(cfg.root, "etc/resolv.conf")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	current, err := FindResolvers(cfg)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := WatchResolvers(ctx, cfg, current, quiet())
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string) {
		t.Helper()
		select {
		case r := <-changes:
			if got := servers(r); got != want {
				t.Errorf("%s: asks %q, want %q", what, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nobody noticed", what)
		}
	}
	putFile(t, etc, "nameserver 192.0.2.1\n")
	expect("the file appeared", "192.0.2.1:53")
	putFile(t, etc, "nameserver 192.0.2.2\n")
	expect("the file was replaced", "192.0.2.2:53")
	if err := os.WriteFile(etc, []byte("nameserver 192.0.2.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("the file was written in place", "192.0.2.3:53")
	if err := os.Remove(etc); err != nil {
		t.Fatal(err)
	}
	expect("the file was removed", "")
	putFile(t, etc, "nameserver 192.0.2.6\n")
	expect("the file came back", "192.0.2.6:53")

	// systemd-resolved takes over: a link to a file elsewhere.
	behind := filepath.Join(cfg.root, "run/systemd/resolve/resolv.conf")
	putFile(t, behind, "nameserver 192.0.2.4\n")
	if err := os.Remove(etc); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../run/systemd/resolve/resolv.conf", etc); err != nil {
		t.Fatal(err)
	}
	for {
		r := <-changes // perhaps the moment without a file first
		if servers(r) == "192.0.2.4:53" {
			break
		}
	}
	putFile(t, behind, "nameserver 192.0.2.5\n")
	expect("what the link leads to was replaced", "192.0.2.5:53")

	putFile(t, filepath.Join(cfg.root, "etc/hosts"), "127.0.0.1 localhost\n")
	select {
	case r := <-changes:
		t.Errorf("another file counts as a change: %+v", r)
	case <-time.After(2 * settleFile):
	}
	cancel()
	if _, ok := <-changes; ok {
		t.Error("the channel stays open after the end")
	}
}

func TestAResolvConfIsReadAsTheCLibraryDoes(t *testing.T) {
	c := parseResolvConf("; comment\nnameserver\nnameserver nonsense\nnameserver fe80::1%eth0\ndomain old.example\nsearch a.example b.example .\noptions ndots:5\noptions rotate\n")
	if len(c.nameservers) != 1 || c.nameservers[0].Zone() != "eth0" || !slices.Equal(c.search, []string{"a.example", "b.example"}) || !slices.Equal(c.options, []string{"ndots:5", "rotate"}) {
		t.Errorf("got %+v", c)
	}
}
