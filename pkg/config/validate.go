package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// validate looks at what settings mean for each other. Flags whose own value
// was refused already are left out.
func (l *loader) validate() {
	l.validateJoin()
	if l.in.Role == ForAgent {
		l.validateLBPort()
		l.validateNodeIPs()
		l.validateLabels()
		l.validateArgs()
		return
	}
	l.validateDatastore()
	l.validateSnapshots()
	l.validateReset()
	l.validateCIDRs()
	l.validateOverlaps()
	l.validateClusterDNS()
	l.validateNodeAddresses()
	l.validatePorts()
	l.validateLabels()
	l.validateArgs()
}

// conflict reports what is wrong with a flag's value, at the place where it
// was set.
func (l *loader) conflict(name, message, fix string) {
	p := Problem{Key: name, Message: message, Fix: fix}
	if values := l.values[name]; len(values) > 0 {
		p.Origin = values[0].origin
	}
	l.report(p)
}

// understood says whether all the flags named have usable values.
func (l *loader) understood(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return l.broken[name] })
}

func (l *loader) validateCIDRs() {
	n := l.server.Network
	for _, c := range []struct {
		name  string
		cidrs []netip.Prefix
	}{{"cluster-cidr", n.ClusterCIDRs}, {"service-cidr", n.ServiceCIDRs}} {
		if !l.understood(c.name) {
			continue
		}
		if repeated(families(c.cidrs, isIPv6Prefix)) {
			l.conflict(c.name, "it has more than one CIDR of an address family", "keep at most one of IPv4 and one of IPv6")
		}
		for _, cidr := range c.cidrs {
			l.validateCIDR(c.name, cidr)
		}
	}
	if !l.understood("cluster-cidr", "service-cidr") || repeated(families(n.ClusterCIDRs, isIPv6Prefix)) {
		return
	}
	if !slices.Equal(families(n.ClusterCIDRs, isIPv6Prefix), families(n.ServiceCIDRs, isIPv6Prefix)) {
		l.conflict("service-cidr", fmt.Sprintf("its address families (%s) are not those of cluster-cidr (%s)", familyNames(n.ServiceCIDRs), familyNames(n.ClusterCIDRs)),
			"give both settings the same families in the same order")
	}
}

func (l *loader) validateCIDR(name string, cidr netip.Prefix) {
	addr := cidr.Addr()
	if addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() {
		l.conflict(name, fmt.Sprintf("%s is set aside for other purposes", cidr), "choose a private range, such as one of 10.0.0.0/8 or fd00::/8")
		return
	}
	// A node gets a /24 or a /64; the API takes at most 2^16 nodes' worth.
	low, high := 8, 24
	if addr.Is6() {
		low, high = 48, 64
	}
	if name == "service-cidr" {
		// 16 addresses: the 10th is the DNS Service's.
		low, high = 0, addr.BitLen()-4
	} else if l.nodeMaskSet() {
		return
	}
	if cidr.Bits() < low {
		l.conflict(name, fmt.Sprintf("%s is larger than Kubernetes takes", cidr), fmt.Sprintf("choose a prefix length from %d to %d", low, high))
	}
	if cidr.Bits() > high {
		l.conflict(name, fmt.Sprintf("%s is too small", cidr), fmt.Sprintf("choose a prefix length of at most %d", high))
	}
}

// nodeMaskSet says whether the user decides how large a node's share is, and
// so what fits.
func (l *loader) nodeMaskSet() bool {
	return slices.ContainsFunc(l.server.ControllerManager.Extra, func(arg string) bool { return strings.HasPrefix(arg, "node-cidr-mask-size") })
}

func familyNames(cidrs []netip.Prefix) string {
	var names []string
	for _, c := range cidrs {
		names = append(names, familyName(c.Addr()))
	}
	return strings.Join(names, ", ")
}

func familyName(addr netip.Addr) string {
	if addr.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// validateOverlaps makes sure that no address means two things.
func (l *loader) validateOverlaps() {
	s := l.server
	for _, service := range s.Network.ServiceCIDRs {
		for _, cluster := range s.Network.ClusterCIDRs {
			if service.Overlaps(cluster) {
				l.conflict("service-cidr", fmt.Sprintf("%s overlaps cluster-cidr %s", service, cluster), "choose ranges that share no address")
			}
		}
	}
	for _, use := range []struct {
		name  string
		addrs []netip.Addr
	}{
		{"node-ip", s.Node.IPs}, {"node-external-ip", s.Node.ExternalIPs}, {"advertise-address", []netip.Addr{s.Listener.AdvertiseAddress}},
		{"bind-address", []netip.Addr{s.Listener.BindAddress}}, {"link-local-dns", []netip.Addr{s.Network.LinkLocalDNS}},
	} {
		for _, addr := range use.addrs {
			l.validateOutside(use.name, addr, "cluster-cidr", s.Network.ClusterCIDRs)
			l.validateOutside(use.name, addr, "service-cidr", s.Network.ServiceCIDRs)
		}
	}
}

func (l *loader) validateOutside(name string, addr netip.Addr, cidrName string, cidrs []netip.Prefix) {
	for _, cidr := range cidrs {
		if addr.IsValid() && cidr.Contains(addr) {
			l.conflict(name, fmt.Sprintf("%s lies inside %s %s", addr, cidrName, cidr), "move one of them: choose another "+cidrName)
		}
	}
}

func (l *loader) validateClusterDNS() {
	n := l.server.Network
	if !l.isSet("cluster-dns") || !l.understood("cluster-dns", "service-cidr") {
		return
	}
	if repeated(families(n.ClusterDNS, netip.Addr.Is6)) {
		l.conflict("cluster-dns", "it has more than one address of an address family", "keep at most one of IPv4 and one of IPv6")
	}
	if l.server.Disabled("coredns") {
		return // the cluster's DNS is elsewhere, and so may its address be
	}
	for _, addr := range n.ClusterDNS {
		within := slices.IndexFunc(n.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) })
		switch {
		case within < 0:
			l.conflict("cluster-dns", fmt.Sprintf("%s is not in service-cidr (%s)", addr, strings.Join(texts(n.ServiceCIDRs), ", ")),
				fmt.Sprintf("choose an address inside it, or leave cluster-dns out to get %s", nth(n.ServiceCIDRs[0], 10)))
		case addr == n.ServiceCIDRs[within].Addr():
			l.conflict("cluster-dns", fmt.Sprintf("%s is the network's own address", addr), fmt.Sprintf("choose %s", nth(n.ServiceCIDRs[within], 10)))
		case addr == nth(n.ServiceCIDRs[within], 1):
			l.conflict("cluster-dns", fmt.Sprintf("%s belongs to the kubernetes Service", addr), fmt.Sprintf("choose %s", nth(n.ServiceCIDRs[within], 10)))
		}
	}
}

func (l *loader) validateNodeAddresses() {
	s := l.server
	l.validateNodeIPs()
	if !l.understood("cluster-cidr") || len(s.Network.ClusterCIDRs) == 0 {
		return
	}
	primary := s.Network.ClusterCIDRs[0].Addr()
	if ips := s.Node.IPs; l.understood("node-ip") && len(ips) > 0 && ips[0].Is6() != primary.Is6() {
		l.conflict("node-ip", fmt.Sprintf("its first address is %s, the first cluster-cidr is %s", familyName(ips[0]), familyName(primary)),
			"put the same address family first in node-ip, cluster-cidr and service-cidr")
	}
	if a := s.Listener.AdvertiseAddress; a.IsValid() && a.Is6() != primary.Is6() {
		l.conflict("advertise-address", fmt.Sprintf("%s is %s, the first service-cidr is %s", a, familyName(a), familyName(primary)),
			"advertise an address of the cluster's first address family")
	}
}

func (l *loader) validateNodeIPs() {
	if l.understood("node-ip") && repeated(families(l.server.Node.IPs, netip.Addr.Is6)) {
		l.conflict("node-ip", "it has more than one address of an address family", "keep at most one of IPv4 and one of IPv6")
	}
}

// nodePorts are the fixed ports of this node's components.
func nodePorts() map[int]string {
	return map[int]string{
		10248: "the kubelet's health check", 10249: "kube-proxy's metrics", 10250: "the kubelet", 10256: "kube-proxy's health check",
		10257: "kube-controller-manager", 10259: "kube-scheduler",
	}
}

func (l *loader) validatePorts() {
	port := l.server.Listener.Port
	if user, taken := nodePorts()[port]; taken && l.understood("https-listen-port") {
		l.conflict("https-listen-port", fmt.Sprintf("port %d is taken by %s", port, user), "choose another, such as 6443")
	}
	r, err := utilnet.ParsePortRange(l.server.Network.NodePortRange)
	if err != nil || !l.understood("service-node-port-range", "https-listen-port") {
		return
	}
	if r.Contains(port) {
		l.conflict("service-node-port-range", fmt.Sprintf("%s contains port %d, on which the API is served", l.server.Network.NodePortRange, port), "choose ranges that share no port")
	}
	if r.Contains(10250) {
		l.conflict("service-node-port-range", fmt.Sprintf("%s contains port 10250, the kubelet's", l.server.Network.NodePortRange), "choose ranges that share no port")
	}
}

func (l *loader) validateLBPort() {
	lb := l.server.LoadBalancer
	if user, taken := nodePorts()[lb.Port]; taken && !lb.Disable && l.understood("lb-server-port") {
		l.conflict("lb-server-port", fmt.Sprintf("port %d is taken by %s", lb.Port, user), "choose another, such as 6444")
	}
}

func (l *loader) validateLabels() {
	labels := map[string]string{}
	for _, label := range l.server.Node.Labels {
		key, text, _ := strings.Cut(label, "=")
		if before, twice := labels[key]; twice && before != text {
			l.conflict("node-label", fmt.Sprintf("label %s is set to %q and to %q", key, before, text), "keep one of them")
		}
		labels[key] = text
	}
	taints := map[string]string{}
	for _, taint := range l.server.Node.Taints {
		at := strings.LastIndex(taint, ":")
		key, _, _ := strings.Cut(taint[:at], "=")
		if before, twice := taints[key+taint[at:]]; twice && before != taint {
			l.conflict("node-taint", fmt.Sprintf("%s and %s have the same key and effect", before, taint), "keep one of them")
		}
		taints[key+taint[at:]] = taint
	}
}

// validateArgs refuses contradictions between components about what exists
// once per process: a feature gate, the verbosity of the log.
func (l *loader) validateArgs() {
	type claim struct{ flag, to string }
	first := map[string]claim{}
	for _, group := range l.server.argGroups() {
		if !l.understood(group.flag) {
			continue
		}
		group.claims(func(what, to string, index int) {
			before, claimed := first[what]
			if !claimed {
				first[what] = claim{group.flag, to}
				return
			}
			if before.to != to {
				p := Problem{Key: group.flag,
					Message: fmt.Sprintf("%s is set to %s here and to %s in %s", what, to, before.to, before.flag),
					Fix:     "all components are one process and share it: give it the same value everywhere"}
				if values := l.values[group.flag]; index < len(values) {
					p.Origin, p.Key = values[index].origin, cmp.Or(values[index].path, group.flag)
				}
				l.report(p)
			}
		})
	}
}
