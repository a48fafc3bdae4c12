package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

const (
	bridgeName  = "cni0"
	cniFile     = "10-skiff.conflist"
	cniNetwork  = "skiff"
	cniVersion  = "1.0.0"
	subnetFile  = "/run/flannel/subnet.env" // where flannel's own CNI plugin looks
	cniFileMode = 0o600
)

type cniList struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Plugins    []any  `json:"plugins"`
}

type bridgePlugin struct {
	Type      string `json:"type"`
	Bridge    string `json:"bridge"`
	MTU       int    `json:"mtu"`
	IsGateway bool   `json:"isGateway"`
	// IsDefaultGateway gives pods a default route to the bridge.
	IsDefaultGateway bool `json:"isDefaultGateway"`
	// ForceAddress replaces an address that the bridge has from another cluster.
	ForceAddress bool `json:"forceAddress"`
	// HairpinMode lets a pod reach itself by its Service.
	HairpinMode bool `json:"hairpinMode"`
	// IPMasq is off: masquerading is one rule for all pods, see rules.go.
	IPMasq bool      `json:"ipMasq"`
	IPAM   hostLocal `json:"ipam"`
}

type hostLocal struct {
	Type    string         `json:"type"`
	DataDir string         `json:"dataDir"`
	Ranges  [][]subnetOnly `json:"ranges"`
}

type subnetOnly struct {
	Subnet netip.Prefix `json:"subnet"`
}

type portmapPlugin struct {
	Type         string          `json:"type"`
	Backend      string          `json:"backend"`
	SNAT         bool            `json:"snat"`
	Capabilities map[string]bool `json:"capabilities"`
}

func newCNIList(cfg Config, cidrs []netip.Prefix, mtu int) cniList {
	ranges := make([][]subnetOnly, len(cidrs))
	for i, p := range cidrs {
		ranges[i] = []subnetOnly{{Subnet: p}}
	}
	backend := "iptables"
	if cfg.NFTables {
		backend = "nftables"
	}
	return cniList{
		CNIVersion: cniVersion,
		Name:       cniNetwork,
		Plugins: []any{
			bridgePlugin{
				Type: "bridge", Bridge: bridgeName, MTU: mtu,
				IsGateway: true, IsDefaultGateway: true, ForceAddress: true, HairpinMode: true,
				IPAM: hostLocal{
					Type: "host-local",
					// Not the default below /var/lib: after a power cut the
					// addresses of pods that are gone would stay taken.
					DataDir: cfg.Layout.CNIState(),
					Ranges:  ranges,
				},
			},
			portmapPlugin{
				Type: "portmap", Backend: backend, SNAT: true,
				Capabilities: map[string]bool{"portMappings": true},
			},
		},
	}
}

// writeCNI writes the network list, ours or the user's. With it the node
// becomes ready.
func (c *Component) writeCNI(cidrs []netip.Prefix, mtu int) error {
	data, err := c.cniList(cidrs, mtu)
	if err != nil {
		return err
	}
	dir := c.cfg.Layout.CNIConf()
	path := filepath.Join(dir, cniFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the directory of CNI configurations: %w", err)
	}
	// containerd reloads when a file in dir is written or renamed, but not when
	// one is moved in from outside. So the file is written outside, for there
	// is no half-written one to be loaded, moved in under a name that is not
	// looked at, and renamed inside.
	outside := filepath.Join(filepath.Dir(dir), cniFile)
	inside := filepath.Join(dir, "."+cniFile+".new")
	if err := atomicfile.Write(outside, data, cniFileMode); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	if err := os.Rename(outside, inside); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	if err := os.Rename(inside, path); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	return nil
}

func (c *Component) cniList(cidrs []netip.Prefix, mtu int) ([]byte, error) {
	if c.cfg.CNIConfFile == "" {
		data, err := json.MarshalIndent(newCNIList(c.cfg, cidrs, mtu), "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encode the CNI configuration: %w", err)
		}
		return append(data, '\n'), nil
	}
	data, err := os.ReadFile(c.cfg.CNIConfFile)
	if err != nil {
		return nil, fmt.Errorf("read --flannel-cni-conf: %w", err)
	}
	var list struct {
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(data, &list); err != nil || len(list.Plugins) == 0 {
		return nil, fmt.Errorf("--flannel-cni-conf %s is not a CNI network list (JSON with a \"plugins\" array): %w",
			c.cfg.CNIConfFile, errors.Join(err, errNoPlugins))
	}
	for _, p := range list.Plugins {
		if p.Type == "flannel" {
			return data, writeSubnetFile(c.cfg, cidrs, mtu)
		}
	}
	return data, nil
}

var errNoPlugins = errors.New("no plugin in it")

// removeCNI takes our network list away.
func (c *Component) removeCNI() error {
	err := os.Remove(filepath.Join(c.cfg.Layout.CNIConf(), cniFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
