package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	proxyscheme "k8s.io/kubernetes/pkg/proxy/apis/config/scheme"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	"k8s.io/kubernetes/pkg/proxy/nftables"

	"github.com/skiff-k8s/skiff/pkg/kube/flags"
)

// resyncPeriod replaces upstream's 30 s: rules change with events, and a full
// look at rules that nobody touched is work for nothing on an idle machine.
const resyncPeriod = "1h"

// effectiveConfig lets upstream's own options merge flags, files and defaults,
// write the result for people to look at, and reads it back: the merged value
// itself is not exported.
func effectiveConfig(ctx context.Context, cfg Config) (*kubeproxyconfig.KubeProxyConfiguration, error) {
	before, _ := readConfig(cfg.ConfigFile) // none on a first start
	o := app.NewOptions()
	fs := flags.NewSet("kube-proxy", nil)
	o.AddFlags(fs)
	if err := flags.Parse(fs, withDefaults(cfg)); err != nil {
		return nil, fmt.Errorf("kube-proxy-arg: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.ConfigFile), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the proxy's configuration: %w", err)
	}
	o.WriteConfigTo = cfg.ConfigFile
	if err := o.Complete(fs); err != nil {
		return nil, fmt.Errorf("the proxy's configuration: %w", err)
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("the proxy's configuration: %w", err)
	}
	if err := o.Run(ctx); err != nil {
		return nil, fmt.Errorf("writing the proxy's configuration: %w", err)
	}
	config, err := readConfig(cfg.ConfigFile)
	if err != nil {
		return nil, err
	}
	if slices.Equal(config.NodePortAddresses, []string{kubeproxyconfig.NodePortAddressesPrimary}) {
		config.NodePortAddresses = hostPrefixes(cfg.NodeIPs)
	}
	if before != nil && before.Mode != config.Mode {
		removeRules(ctx, before.Mode)
	}
	return config, nil
}

// withDefaults puts Skiff's own arguments before the user's, but for those that
// the user gives: repeating a list flag would append.
func withDefaults(cfg Config) []string {
	own := slices.DeleteFunc(defaults(cfg), func(d string) bool {
		return slices.ContainsFunc(cfg.ExtraArgs, func(a string) bool { return flags.Name(a) == flags.Name(d) })
	})
	return append(own, cfg.ExtraArgs...)
}

func defaults(cfg Config) []string {
	args := []string{
		"proxy-mode=" + cfg.Mode,
		"hostname-override=" + cfg.NodeName,
		"cluster-cidr=" + flags.Prefixes(cfg.ClusterCIDRs),
		"detect-local-mode=ClusterCIDR",
		"iptables-sync-period=" + resyncPeriod,
		"healthz-bind-address=0.0.0.0:10256",
		// All of the node's addresses, as with iptables; nftables' default is
		// the primary one.
		"nodeport-addresses=0.0.0.0/0,::/0",
	}
	if cfg.LeaveConntrack {
		args = append(args, "conntrack-max-per-core=0", "conntrack-min=0",
			"conntrack-tcp-timeout-established=0s", "conntrack-tcp-timeout-close-wait=0s")
	}
	return args
}

func readConfig(file string) (*kubeproxyconfig.KubeProxyConfiguration, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the proxy's configuration: %w", err)
	}
	obj, err := runtime.Decode(proxyscheme.Codecs.UniversalDecoder(), data)
	if err != nil {
		return nil, fmt.Errorf("the proxy's configuration %s: %w", file, err)
	}
	config, ok := obj.(*kubeproxyconfig.KubeProxyConfiguration)
	if !ok {
		return nil, fmt.Errorf("the proxy's configuration %s is a %T", file, obj)
	}
	return config, nil
}

// removeRules takes away what a proxier of another mode left: two modes at
// once would both answer for a Service.
func removeRules(ctx context.Context, mode kubeproxyconfig.ProxyMode) {
	switch mode {
	case kubeproxyconfig.ProxyModeIPTables:
		iptables.CleanupLeftovers(ctx)
	case kubeproxyconfig.ProxyModeNFTables:
		nftables.CleanupLeftovers(ctx)
	}
}

// hostPrefixes are the networks that hold one address each.
func hostPrefixes(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, netip.PrefixFrom(a, a.BitLen()).String())
	}
	return out
}
