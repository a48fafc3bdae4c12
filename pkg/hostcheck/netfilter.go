package hostcheck

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// kube-proxy's own conditions for nftables (pkg/proxy/nftables/supported.go):
// older programs read the whole rule set at each start and crash on rules that
// they do not know.
const (
	minNFT    = "1.0.1"
	minKernel = "5.13"
)

// nftProbe holds every expression that kube-proxy and flannel write, one table
// for each address family, to be checked by the kernel without being applied.
const nftProbe = `
add table %[1]s skiff-hostcheck
add chain %[1]s skiff-hostcheck pre { type nat hook prerouting priority -100 ; }
add chain %[1]s skiff-hostcheck post { type nat hook postrouting priority 100 ; }
add chain %[1]s skiff-hostcheck forward { type filter hook forward priority -110 ; }
add chain %[1]s skiff-hostcheck backend
add map %[1]s skiff-hostcheck services { type %[2]s . inet_proto . inet_service : verdict ; }
add set %[1]s skiff-hostcheck affinity { type %[2]s ; flags dynamic,timeout ; timeout 1h ; }
add rule %[1]s skiff-hostcheck pre %[3]s daddr . meta l4proto . th dport vmap @services
add rule %[1]s skiff-hostcheck pre fib daddr type local numgen random mod 2 vmap { 0 : goto backend, 1 : goto backend }
add rule %[1]s skiff-hostcheck backend update @affinity { %[3]s saddr } meta l4proto tcp dnat to %[4]s
add rule %[1]s skiff-hostcheck post mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random
add rule %[1]s skiff-hostcheck forward ct state new reject
`

func nftRules(ipv6 bool) string {
	rules := fmt.Sprintf(nftProbe, "ip", "ipv4_addr", "ip", "192.0.2.1:80")
	if ipv6 {
		rules += fmt.Sprintf(nftProbe, "ip6", "ipv6_addr", "ip6", "[2001:db8::1]:80")
	}
	return rules
}

func probeProxy(ctx context.Context, s *system, opts Options, f *Facts, r *report) {
	// Flannel and port mappings need a packet filter even without a proxy.
	if opts.NoProxy && opts.FlannelBackend == "none" {
		return
	}
	if opts.ProxyMode != "" && opts.ProxyMode != ProxyNFTables && opts.ProxyMode != ProxyIPTables {
		f.ProxyMode = opts.ProxyMode // ipvs: upstream checks it by itself
		return
	}
	var nftError, iptablesError error
	if opts.ProxyMode != ProxyIPTables {
		if nftError = s.checkNFT(ctx, opts.IPv6); nftError == nil {
			f.ProxyMode = ProxyNFTables
			return
		}
	}
	if opts.ProxyMode != ProxyNFTables {
		if iptablesError = s.checkIPTables(opts.IPv6); iptablesError == nil {
			f.ProxyMode = ProxyIPTables
			if nftError != nil {
				r.warn(fmt.Sprintf("Services are forwarded by iptables, because nftables cannot be used: %v", nftError), s.install("nftables", nil))
			}
			return
		}
	}
	switch opts.ProxyMode {
	case ProxyNFTables:
		r.problem(fmt.Sprintf("the proxy mode nftables was asked for and does not work: %v", nftError), s.install("nftables", nil))
	case ProxyIPTables:
		r.problem(fmt.Sprintf("the proxy mode iptables was asked for and does not work: %v", iptablesError), s.install("iptables", nil))
	default:
		r.problem(fmt.Sprintf("there is no packet filter for Services and the pod network: %v; %v", nftError, iptablesError), s.install("nftables", nil))
	}
}

// checkNFT lets the program and the kernel say at once whether they will do.
func (s *system) checkNFT(ctx context.Context, ipv6 bool) error {
	path, err := s.lookPath("nft")
	if err != nil {
		return fmt.Errorf("there is no program nft in the PATH")
	}
	if !atLeast(s.release, minKernel) {
		return fmt.Errorf("the kernel is %s, and %s is needed", s.release, minKernel)
	}
	var version string
	var versionError, rulesError error
	var wg sync.WaitGroup
	wg.Go(func() { version, versionError = s.run(ctx, "", path, "--version") })
	wg.Go(func() { _, rulesError = s.run(ctx, nftRules(ipv6), path, "--check", "-f", "-") })
	wg.Wait()
	if versionError != nil {
		return versionError
	}
	// "nftables v1.0.6 (Lester Gooch #5)"
	if fields := strings.Fields(version); len(fields) < 2 || !atLeast(strings.TrimPrefix(fields[1], "v"), minNFT) {
		return fmt.Errorf("nft says that it is %q, and %s is needed", strings.TrimSpace(version), minNFT)
	}
	if rulesError != nil {
		return fmt.Errorf("the kernel does not take the rules: %w", rulesError)
	}
	return nil
}

func (s *system) checkIPTables(ipv6 bool) error {
	names := []string{"iptables", "iptables-save", "iptables-restore"}
	if ipv6 {
		names = append(names, "ip6tables", "ip6tables-save", "ip6tables-restore")
	}
	for _, name := range names {
		if _, err := s.lookPath(name); err != nil {
			return fmt.Errorf("there is no program %s in the PATH", name)
		}
	}
	return nil
}

// atLeast compares versions by their leading numbers: 6.1.0-18-amd64 is 6.1.0.
func atLeast(version, minimum string) bool {
	have, want := numbers(version), numbers(minimum)
	for i := range want {
		if i >= len(have) {
			return false
		}
		if have[i] != want[i] {
			return have[i] > want[i]
		}
	}
	return true
}

func numbers(version string) []int {
	var list []int
	for part := range strings.SplitSeq(version, ".") {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		list = append(list, n)
		if digits != part {
			break
		}
	}
	return list
}

// What kube-proxy writes at its start (pkg/proxy/conntrack/sysctls.go).
const (
	conntrackMax      = "/proc/sys/net/netfilter/nf_conntrack_max"
	conntrackHashsize = "/sys/module/nf_conntrack/parameters/hashsize"
)

func probeConntrack(_ context.Context, s *system, _ Options, f *Facts, r *report) {
	if !s.exists(conntrackMax) {
		r.mend(s.loadModule("nf_conntrack", conntrackMax))
		return
	}
	f.ConntrackWritable = s.conntrackWritable()
}

func (s *system) conntrackWritable() bool {
	for _, name := range []string{"max", "tcp_timeout_established", "tcp_timeout_close_wait"} {
		if !s.writable("/proc/sys/net/netfilter/nf_conntrack_" + name) {
			return false
		}
	}
	// In a network namespace this opens and then refuses any value, so it is
	// given the one that it has.
	value, err := s.read(conntrackHashsize)
	return err == nil && s.write(conntrackHashsize, value) == nil
}
