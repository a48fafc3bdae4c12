package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"    // registers "host-gw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"     // registers "vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard" // registers "wireguard"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/sirupsen/logrus"
)

// plan is the network as flannel understands it.
type plan struct {
	cfg  Config
	conf *subnet.Config
}

// Overheads of the back ends in bytes, flannel's own numbers.
var overheads = map[string]int{"vxlan": 50, "wireguard": 80, "host-gw": 0}

// vxlanIPv6Extra is what an outer IPv6 header takes more than an IPv4 one.
// flannel does not count it.
const vxlanIPv6Extra = 20

const (
	defaultMTU = 1500
	keepalive  = 25 // seconds; keeps a NAT's mapping to a WireGuard peer
)

// newPlan reads the back end's configuration. It touches nothing.
func newPlan(cfg Config) (*plan, error) {
	conf, err := flannelConfig(cfg)
	if err != nil {
		return nil, err
	}
	if _, ok := overheads[conf.BackendType]; !ok {
		return nil, fmt.Errorf("flannel's back end %q is not part of Skiff: use vxlan, host-gw or wireguard", conf.BackendType)
	}
	for _, p := range cfg.ClusterCIDRs {
		n := ipNet(p)
		if p.Addr().Is4() {
			conf.EnableIPv4, conf.Network = true, ip.FromIPNet(n)
		} else {
			conf.EnableIPv6, conf.IPv6Network = true, ip.FromIP6Net(n)
		}
	}
	if !conf.EnableIPv4 && !conf.EnableIPv6 {
		return nil, errors.New("the pod network has no cluster CIDR")
	}
	conf.EnableNFTables = cfg.NFTables
	return &plan{cfg: cfg, conf: conf}, nil
}

func flannelConfig(cfg Config) (*subnet.Config, error) {
	if cfg.NetConfFile != "" {
		data, err := os.ReadFile(cfg.NetConfFile)
		if err != nil {
			return nil, fmt.Errorf("read --flannel-conf: %w", err)
		}
		conf, err := subnet.ParseConfig(string(data))
		if err != nil {
			return nil, fmt.Errorf("--flannel-conf %s is not a flannel net-conf.json: %w", cfg.NetConfFile, err)
		}
		conf.EnableIPv4, conf.EnableIPv6 = false, false
		return conf, nil
	}
	settings := map[string]any{}
	switch cfg.Backend {
	case BackendVXLAN, BackendHostGW:
		settings["Type"] = cfg.Backend
	case BackendWireGuard:
		settings["Type"] = "wireguard"
		settings["PersistentKeepalive"] = keepalive
	default:
		return nil, fmt.Errorf("--flannel-backend=%s: there are vxlan, host-gw, wireguard-native and none", cfg.Backend)
	}
	raw, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("encode flannel's configuration: %w", err)
	}
	return &subnet.Config{BackendType: settings["Type"].(string), Backend: raw}, nil
}

// mtu is what fits into a packet between pods. It is computed, not asked of the
// back end, so that pods need not wait for that.
func (p *plan) mtu(log *logrus.Entry) int {
	link := defaultMTU
	if ext, err := externalInterface(p.cfg, p.conf.EnableIPv4, p.conf.EnableIPv6); err == nil {
		link = ext.Iface.MTU
	} else {
		log.WithError(err).Warnf("the link between nodes is not there yet; pods get the MTU for one of %d", defaultMTU)
	}
	var chosen struct {
		MTU int `json:"mtu"`
	}
	// flannel reads the same keys, whatever their case, when it starts.
	if err := json.Unmarshal(p.conf.Backend, &chosen); err == nil && chosen.MTU > 0 {
		link = chosen.MTU
	} else if p.conf.BackendType == "vxlan" && p.conf.EnableIPv6 {
		link -= vxlanIPv6Extra
	}
	return link - overheads[p.conf.BackendType]
}
