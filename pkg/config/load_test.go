package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// host is a place with configuration files, away from this machine's own.
type host struct {
	t   *testing.T
	dir string
	in  Input
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	return &host{t: t, dir: dir, in: Input{
		ConfigFile: filepath.Join(dir, "config.yaml"),
		Hostname:   func() (string, error) { return "edge1", nil },
	}}
}

func (h *host) write(name, text string) *host {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) load() *Effective {
	h.t.Helper()
	effective, err := Load(h.in)
	if err != nil {
		h.t.Fatalf("Load: %v", err)
	}
	return effective
}

// problems loads what must be refused and gives the messages, with the host's
// directory written as DIR.
func (h *host) problems() []string {
	h.t.Helper()
	effective, err := Load(h.in)
	if err == nil {
		h.t.Fatalf("accepted: %+v", effective.Server)
	}
	if _, ok := errors.AsType[Problems](err); !ok {
		h.t.Fatalf("%T is not Problems", err)
	}
	return strings.Split(strings.ReplaceAll(err.Error(), h.dir, "DIR"), "\n")
}

func TestLaterSourcesBeatEarlierOnes(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		env   []string
		flags Given
		want  string // of cluster-domain
	}{
		"the default holds when nobody says anything": {want: "cluster.local"},
		"the file beats the default":                  {files: map[string]string{"config.yaml": "cluster-domain: file"}, want: "file"},
		"a drop-in beats the file": {files: map[string]string{
			"config.yaml": "cluster-domain: file", "config.yaml.d/10.yaml": "cluster-domain: ten"}, want: "ten"},
		"drop-ins count in alphabetical order": {files: map[string]string{
			"config.yaml.d/20.yml": "cluster-domain: twenty", "config.yaml.d/10.yaml": "cluster-domain: ten"}, want: "twenty"},
		"hidden files and other files are no drop-ins": {files: map[string]string{
			"config.yaml": "cluster-domain: file", "config.yaml.d/.20.yaml": "cluster-domain: hidden",
			"config.yaml.d/30.yaml~": "cluster-domain: backup", "config.yaml.d/40.yaml/x": "{"}, want: "file"},
		"the environment beats files": {files: map[string]string{"config.yaml.d/10.yaml": "cluster-domain: ten"},
			env: []string{"SKIFF_CLUSTER_DOMAIN=env"}, want: "env"},
		"an empty variable says nothing": {files: map[string]string{"config.yaml": "cluster-domain: file"},
			env: []string{"SKIFF_CLUSTER_DOMAIN="}, want: "file"},
		"a flag beats the environment":     {env: []string{"SKIFF_CLUSTER_DOMAIN=env"}, flags: Given{"cluster-domain": {"flag"}}, want: "flag"},
		"the last of several flags counts": {flags: Given{"cluster-domain": {"first", "last"}}, want: "last"},
		"a key without a value goes back to the default": {files: map[string]string{
			"config.yaml": "cluster-domain: file", "config.yaml.d/10.yaml": "cluster-domain:"}, want: "cluster.local"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for file, text := range c.files {
				h.write(file, text)
			}
			h.in.Environ, h.in.Flags = c.env, c.flags
			if got := h.load().Server.Network.ClusterDomain; got != c.want {
				t.Errorf("cluster-domain is %q, want %q", got, c.want)
			}
		})
	}
}

func TestListsAreReplacedUnlessAddedTo(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string // files
		env           []string
		flags         Given
		want          []string // of node-label
	}{
		"a later file replaces the list":  {first: "node-label: [a=1, b=2]", second: "node-label: [c=3]", want: []string{"c=3"}},
		"key+ appends to it":              {first: "node-label: [a=1]", second: "node-label+: [b=2, c=3]", want: []string{"a=1", "b=2", "c=3"}},
		"key+ alone is the list":          {second: "node-label+: [b=2]", want: []string{"b=2"}},
		"key and key+ in one file add up": {first: "node-label: [a=1]\nnode-label+: b=2", want: []string{"a=1", "b=2"}},
		"a single value is a list of one": {first: "node-label: a=1", want: []string{"a=1"}},
		"commas separate items":           {first: "node-label: a=1,b=2", want: []string{"a=1", "b=2"}},
		"an empty list empties it":        {first: "node-label: [a=1]", second: "node-label: []"},
		"a list without items empties it": {first: "node-label: [a=1]", second: "node-label:"},
		"the environment replaces it":     {first: "node-label: [a=1]", env: []string{"SKIFF_NODE_LABEL=b=2,c=3"}, want: []string{"b=2", "c=3"}},
		"flags replace it":                {first: "node-label: [a=1]", flags: Given{"node-label": {"b=2", "c=3"}}, want: []string{"b=2", "c=3"}},
		"an empty flag empties it":        {first: "node-label: [a=1]", flags: Given{"node-label": {""}}},
		"an alias stands for its anchor":  {first: "node-label: &x [a=1]", second: "", want: []string{"a=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t).write("config.yaml", c.first).write("config.yaml.d/second.yaml", c.second)
			h.in.Environ, h.in.Flags = c.env, c.flags
			if got := h.load().Server.Node.Labels; !slices.Equal(got, c.want) {
				t.Errorf("node-label is %q, want %q", got, c.want)
			}
		})
	}
}

func TestArgumentsOfComponentsKeepTheirCommas(t *testing.T) {
	h := newHost(t).write("config.yaml", "kubelet-arg:\n- feature-gates=A=true,B=false\n- --max-pods=200\n- fail-swap-on\n")
	h.in.Environ = []string{"SKIFF_KUBE_APISERVER_ARG=audit-log-path=/a,b\nv=1"}
	s := h.load().Server
	if want := []string{"feature-gates=A=true,B=false", "max-pods=200", "fail-swap-on=true"}; !slices.Equal(s.Node.Kubelet.Extra, want) {
		t.Errorf("kubelet-arg is %q, want %q", s.Node.Kubelet.Extra, want)
	}
	if want := []string{"audit-log-path=/a,b", "v=1"}; !slices.Equal(s.APIServer.Extra, want) {
		t.Errorf("kube-apiserver-arg is %q, want %q", s.APIServer.Extra, want)
	}
	if want := map[string]bool{"A": true, "B": false}; !reflect.DeepEqual(s.FeatureGates(), want) {
		t.Errorf("feature gates are %v, want %v", s.FeatureGates(), want)
	}
}

func TestScalarsMayBeWrittenAsYAMLHasThem(t *testing.T) {
	s := newHost(t).write("config.yaml", `
https-listen-port: 7443
advertise-port: "8443"
debug: yes
selinux: "true"
write-kubeconfig-mode: 0640
datastore-slow-query: 250ms
node-name: Edge-2
log-level: [datastore=debug, dns=warning]
bind-address: 127.0.0.1
`).load().Server
	if s.Listener.Port != 7443 || s.Listener.AdvertisePort != 8443 || !s.Logging.Debug || !s.Node.SELinux ||
		s.Kubeconfig.Mode != 0o640 || s.Datastore.SlowQuery != 250*time.Millisecond || s.Node.Name != "edge-2" ||
		s.Logging.ComponentLevels["dns"] != "warning" || s.Listener.BindAddress.String() != "127.0.0.1" {
		t.Errorf("got %+v", s)
	}
}

func TestDefaultsFollowOtherSettings(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want string // cluster, service, dns, bind, link-local, advertised port
	}{
		"an empty file gives IPv4": {"", "[10.42.0.0/16] [10.43.0.0/16] [10.43.0.10] 0.0.0.0 169.254.20.10 6443"},
		"the DNS address is the 10th of service-cidr": {"service-cidr: 10.96.0.0/12",
			"[10.42.0.0/16] [10.96.0.0/12] [10.96.0.10] 0.0.0.0 169.254.20.10 6443"},
		"a node with IPv6 only gets an IPv6 cluster": {"node-ip: 2001:db8::5\nhttps-listen-port: 443",
			"[fd00:42::/56] [fd00:43::/112] [fd00:43::a] :: fd00:42:ffff::53 443"},
		"service-cidr has the families of cluster-cidr": {"cluster-cidr: fd00:1::/56,10.1.0.0/16",
			"[fd00:1::/56 10.1.0.0/16] [fd00:43::/112 10.43.0.0/16] [fd00:43::a 10.43.0.10] :: fd00:42:ffff::53 6443"},
		"cluster-cidr has the families of service-cidr": {"service-cidr: 10.2.0.0/16,fd00:2::/112",
			"[10.42.0.0/16 fd00:42::/56] [10.2.0.0/16 fd00:2::/112] [10.2.0.10 fd00:2::a] :: 169.254.20.10 6443"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHost(t).write("config.yaml", c.file).load().Server
			got := sprint(s.Network.ClusterCIDRs, s.Network.ServiceCIDRs, s.Network.ClusterDNS, s.Listener.BindAddress, s.Network.LinkLocalDNS, s.Listener.AdvertisePort)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNamedConfigFileIsReadWithItsDropIns(t *testing.T) {
	h := newHost(t).write("other.yaml", "debug: true").write("other.yaml.d/a.yaml", "v: 3").write("config.yaml", "v: 9")
	h.in.Environ = []string{"SKIFF_CONFIG_FILE=" + filepath.Join(h.dir, "other.yaml")}
	effective := h.load()
	if s := effective.Server; !s.Logging.Debug || s.Logging.Verbosity != 3 {
		t.Errorf("other.yaml was not read: %+v", s.Logging)
	}
	if len(effective.Files) != 2 {
		t.Errorf("read %q", effective.Files)
	}
}

func TestRelativePathsOfFlagsBecomeAbsolute(t *testing.T) {
	h := newHost(t)
	h.in.Flags = Given{"data-dir": {"x/../data"}}
	t.Chdir(h.dir)
	if got, want := h.load().Server.Layout.Data, filepath.Join(h.dir, "data"); got != want {
		t.Errorf("data-dir is %s, want %s", got, want)
	}
}

func TestK3sConfigurationStaysValid(t *testing.T) {
	h := newHost(t).write("config.yaml", `
write-kubeconfig-mode: "0644"
disable: [traefik, servicelb, metrics-server, local-storage]
disable-cloud-controller: true
disable-helm-controller: true
disable-network-policy: true
secrets-encryption: false
cluster-init: false
tls-san: [foo.local]
kubelet-arg: ["max-pods=200"]
`)
	h.in.Flags = Given{"embedded-registry": {"false"}}
	if s := h.load().Server; s.Disabled("coredns") || s.Kubeconfig.Mode != 0o644 {
		t.Errorf("got %+v", s)
	}
}

func TestUnknownVariablesAreWarnedOf(t *testing.T) {
	h := newHost(t)
	h.in.Environ = []string{"SKIFF_NODE_NAM=x", "SKIFF_SERVICE_HOST=10.0.0.1", "SKIFF_PORT_80_TCP=tcp://10.0.0.1:80", "SKIFF_DEBUG=true", "OTHER=1"}
	want := []string{"the environment variable SKIFF_NODE_NAM is none of Skiff's and has no effect; did you mean SKIFF_NODE_NAME?"}
	if got := h.load().Warnings; !slices.Equal(got, want) {
		t.Errorf("warnings are %q, want %q", got, want)
	}
}

func TestConfigurationIsNotSharedWithItsReaders(t *testing.T) {
	h := newHost(t)
	labels := []string{"a=1", "b=2"}
	h.in.Flags = Given{"node-label": labels}
	effective := h.load()
	labels[0] = "changed=1"
	effective.Settings[indexOf(t, effective, "node-label")].Value.([]string)[1] = "changed=2"
	if want := []string{"a=1", "b=2"}; !slices.Equal(effective.Server.Node.Labels, want) {
		t.Errorf("labels changed to %q", effective.Server.Node.Labels)
	}
}

func indexOf(t *testing.T, e *Effective, name string) int {
	t.Helper()
	i := slices.IndexFunc(e.Settings, func(s Setting) bool { return s.Flag.Name == name })
	if i < 0 {
		t.Fatalf("no setting %s", name)
	}
	return i
}
