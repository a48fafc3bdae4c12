package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"
	upstream "k8s.io/kubernetes/pkg/proxy"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

// newProxier makes upstream's proxier of the configured mode, for both address
// families where the host has both.
func newProxier(ctx context.Context, c *kubeproxyconfig.KubeProxyConfiguration, cfg Config, recorder events.EventRecorder, health *healthcheck.ProxyHealthServer) (upstream.Provider, error) {
	ips := nodeIPs(cfg.NodeIPs)
	local := localDetectors(c)
	dual := hostHasIPv6()
	primary := corev1.IPv4Protocol
	if len(cfg.NodeIPs) > 0 && cfg.NodeIPs[0].Is6() {
		primary = corev1.IPv6Protocol
	}
	var p upstream.Provider
	var err error
	switch {
	case c.Mode == kubeproxyconfig.ProxyModeNFTables && dual:
		p, err = nftables.NewDualStackProxier(ctx, c.SyncPeriod.Duration, c.MinSyncPeriod.Duration, c.Linux.MasqueradeAll,
			int(*c.NFTables.MasqueradeBit), local, cfg.NodeName, ips, recorder, health, c.NodePortAddresses, false)
	case c.Mode == kubeproxyconfig.ProxyModeNFTables:
		p, err = nftables.NewProxier(ctx, primary, c.SyncPeriod.Duration, c.MinSyncPeriod.Duration, c.Linux.MasqueradeAll,
			int(*c.NFTables.MasqueradeBit), local[primary], cfg.NodeName, ips[primary], recorder, health, c.NodePortAddresses, false)
	case c.Mode == kubeproxyconfig.ProxyModeIPTables && dual:
		p, err = iptables.NewDualStackProxier(ctx, utiliptables.NewBestEffort(), utilsysctl.New(), c.SyncPeriod.Duration, c.MinSyncPeriod.Duration,
			c.Linux.MasqueradeAll, *c.IPTables.LocalhostNodePorts, int(*c.IPTables.MasqueradeBit), local, cfg.NodeName, ips, recorder, health, c.NodePortAddresses, false)
	case c.Mode == kubeproxyconfig.ProxyModeIPTables:
		p, err = iptables.NewProxier(ctx, primary, utiliptables.NewBestEffort()[primary], utilsysctl.New(), c.SyncPeriod.Duration, c.MinSyncPeriod.Duration,
			c.Linux.MasqueradeAll, *c.IPTables.LocalhostNodePorts, int(*c.IPTables.MasqueradeBit), local[primary], cfg.NodeName, ips[primary], recorder, health, c.NodePortAddresses, false)
	default:
		return nil, fmt.Errorf("kube-proxy-arg proxy-mode=%s: Skiff has nftables and iptables", c.Mode)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing the %s proxier: %w", c.Mode, err)
	}
	return p, nil
}

// nodeIPs has one address per family; a family without one gets loopback,
// which only means that no load balancer source range matches this node.
func nodeIPs(addrs []netip.Addr) map[corev1.IPFamily]net.IP {
	ips := map[corev1.IPFamily]net.IP{
		corev1.IPv4Protocol: net.IPv4(127, 0, 0, 1),
		corev1.IPv6Protocol: net.IPv6loopback,
	}
	for i := len(addrs) - 1; i >= 0; i-- {
		family := corev1.IPv4Protocol
		if addrs[i].Is6() {
			family = corev1.IPv6Protocol
		}
		ips[family] = addrs[i].AsSlice()
	}
	return ips
}

// localDetectors tell a pod's traffic from other traffic.
func localDetectors(c *kubeproxyconfig.KubeProxyConfiguration) map[corev1.IPFamily]proxyutil.LocalTrafficDetector {
	d := map[corev1.IPFamily]proxyutil.LocalTrafficDetector{
		corev1.IPv4Protocol: proxyutil.NewNoOpLocalDetector(),
		corev1.IPv6Protocol: proxyutil.NewNoOpLocalDetector(),
	}
	switch c.DetectLocalMode {
	case kubeproxyconfig.LocalModeBridgeInterface:
		bridge := proxyutil.NewDetectLocalByBridgeInterface(c.DetectLocal.BridgeInterface)
		d[corev1.IPv4Protocol], d[corev1.IPv6Protocol] = bridge, bridge
	case kubeproxyconfig.LocalModeInterfaceNamePrefix:
		prefix := proxyutil.NewDetectLocalByInterfaceNamePrefix(c.DetectLocal.InterfaceNamePrefix)
		d[corev1.IPv4Protocol], d[corev1.IPv6Protocol] = prefix, prefix
	default:
		for family, cidrs := range proxyutil.MapCIDRsByIPFamily(c.DetectLocal.ClusterCIDRs) {
			d[family] = proxyutil.NewDetectLocalByCIDR(cidrs[0].String())
		}
	}
	return d
}

func hostHasIPv6() bool {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return false
	}
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err != nil || strings.TrimSpace(string(off)) != "1"
}
