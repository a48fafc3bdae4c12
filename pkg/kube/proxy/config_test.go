package proxy

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
)

func TestEffectiveConfig(t *testing.T) {
	cfg := Config{
		NodeName:       "one",
		ClusterCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		Mode:           "nftables",
		LeaveConntrack: true,
		ConfigFile:     filepath.Join(t.TempDir(), "etc", "kube-proxy.yaml"),
		NodeIPs:        []netip.Addr{netip.MustParseAddr("10.9.8.7")},
		ExtraArgs:      []string{"nodeport-addresses=primary", "iptables-sync-period=5m"},
	}
	got, err := effectiveConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode != kubeproxyconfig.ProxyModeNFTables || got.NFTables.MasqueradeBit == nil {
		t.Errorf("mode %q, masquerade bit %v: want nftables and a bit", got.Mode, got.NFTables.MasqueradeBit)
	}
	if got.SyncPeriod.Duration != 5*time.Minute {
		t.Errorf("sync period %v: the user's 5m must win over Skiff's", got.SyncPeriod.Duration)
	}
	if len(got.NodePortAddresses) != 1 || got.NodePortAddresses[0] != "10.9.8.7/32" {
		t.Errorf("nodeport addresses %v", got.NodePortAddresses)
	}
	if m := got.Linux.Conntrack.MaxPerCore; m == nil || *m != 0 {
		t.Errorf("conntrack-max-per-core %v: want 0 where the sysctl can't be written", m)
	}
	if got.HealthzBindAddress != "0.0.0.0:10256" {
		t.Errorf("healthz address %q", got.HealthzBindAddress)
	}
}

func TestEffectiveConfigRefusesUnknownFlags(t *testing.T) {
	_, err := effectiveConfig(t.Context(), Config{Mode: "iptables", ConfigFile: filepath.Join(t.TempDir(), "c"), ExtraArgs: []string{"no-such-flag=1"}})
	if err == nil {
		t.Fatal("an unknown flag was accepted")
	}
}
