package network

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func testComponent(dir string, change func(*Config)) *Component {
	cfg := Config{
		Layout:       layout.Layout{Data: filepath.Join(dir, "data"), Run: "/run/skiff", Config: filepath.Join(dir, "etc")},
		NodeName:     "one",
		NodeIPs:      []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ClusterCIDRs: prefixes("10.42.0.0/16"),
		Backend:      BackendVXLAN,
		NFTables:     true,
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg, nil, logrus.NewEntry(logrus.New()))
}

const wantIPv4 = `{
  "cniVersion": "1.0.0",
  "name": "skiff",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "mtu": 1450,
      "isGateway": true,
      "isDefaultGateway": true,
      "forceAddress": true,
      "hairpinMode": true,
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/skiff/cni",
        "ranges": [
          [
            {
              "subnet": "10.42.0.0/24"
            }
          ]
        ]
      }
    },
    {
      "type": "portmap",
      "backend": "nftables",
      "snat": true,
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`

func TestTheCNIConfiguration(t *testing.T) {
	c := testComponent(t.TempDir(), nil)
	path := filepath.Join(c.cfg.Layout.CNIConf(), cniFile)
	if err := c.writeCNI(prefixes("10.42.0.0/24"), 1450); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != wantIPv4 {
		t.Errorf("got %s, want %s", data, wantIPv4)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("there is %v (%v), want only the configuration", entries, err)
	}
}

func TestBothAddressFamiliesHaveARangeEach(t *testing.T) {
	c := testComponent(t.TempDir(), func(cfg *Config) { cfg.NFTables = false })
	data, err := c.cniList(prefixes("10.42.0.0/24", "fd00:42::/64"), 1430)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Plugins []struct {
			Backend string
			IPAM    struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	ranges := list.Plugins[0].IPAM.Ranges
	if len(ranges) != 2 || ranges[0][0].Subnet != "10.42.0.0/24" || ranges[1][0].Subnet != "fd00:42::/64" {
		t.Errorf("got ranges %v", ranges)
	}
	if got := list.Plugins[1].Backend; got != "iptables" {
		t.Errorf("host ports are made with %q, want iptables", got)
	}
}

func TestTheUsersCNIConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		err     string
	}{
		"is taken as it is":         {`{"name":"mine","plugins":[{"type":"ptp"}]}`, ""},
		"is refused if it is none":  {`hello`, "--flannel-cni-conf"},
		"is refused if it is empty": {`{"name":"mine"}`, "no plugin in it"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "mine.conflist")
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			net := testComponent(t.TempDir(), func(cfg *Config) { cfg.CNIConfFile = file })
			data, err := net.cniList(prefixes("10.42.0.0/24"), 1450)
			if c.err == "" {
				if err != nil || string(data) != c.content {
					t.Errorf("got %s (%v)", data, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want %q and the file in it", err, c.err)
			}
		})
	}
}

func TestPlans(t *testing.T) {
	conf := func(content string) func(*Config) {
		return func(cfg *Config) {
			cfg.NetConfFile = filepath.Join(cfg.Layout.Config, "net-conf.json")
			_ = os.MkdirAll(cfg.Layout.Config, 0o700)
			_ = os.WriteFile(cfg.NetConfFile, []byte(content), 0o600)
		}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		mtu    int
		err    string
	}{
		"vxlan takes 50 bytes":               {nil, 1450, ""},
		"vxlan with IPv6 takes 70":           {func(c *Config) { c.ClusterCIDRs = prefixes("10.42.0.0/16", "fd00::/48") }, 1430, ""},
		"WireGuard takes 80":                 {func(c *Config) { c.Backend = BackendWireGuard }, 1420, ""},
		"host-gw takes nothing":              {func(c *Config) { c.Backend = BackendHostGW }, 1500, ""},
		"an unknown one is refused":          {func(c *Config) { c.Backend = "ipsec" }, 0, "--flannel-backend=ipsec"},
		"no cluster CIDR is refused":         {func(c *Config) { c.ClusterCIDRs = nil }, 0, "cluster CIDR"},
		"a user's configuration counts":      {conf(`{"Backend":{"Type":"vxlan","MTU":9000}}`), 8950, ""},
		"a user's back end has to be ours":   {conf(`{"Backend":{"Type":"udp"}}`), 0, `"udp" is not part of Skiff`},
		"a user's configuration may be none": {conf(`nonsense`), 0, "--flannel-conf"},
	} {
		t.Run(name, func(t *testing.T) {
			net := testComponent(t.TempDir(), c.change)
			p, err := newPlan(net.cfg)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q in it", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			quiet := logrus.New()
			quiet.SetLevel(logrus.ErrorLevel)
			if got := p.mtu(logrus.NewEntry(quiet)); got != c.mtu {
				t.Errorf("got an MTU of %d, want %d", got, c.mtu)
			}
		})
	}
}
