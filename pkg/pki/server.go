package pki

import (
	"cmp"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// ServerConfig is what the control plane's certificates depend on.
type ServerConfig struct {
	Layout     layout.Layout
	Listener   config.Listener
	Kubeconfig config.Kubeconfig

	ServiceCIDRs  []netip.Prefix
	ClusterDomain string
	// Etcd says that there is an embedded etcd.
	Etcd bool
	// Names and Addresses of this host: the node's, inner and outer.
	Names     []string
	Addresses []netip.Addr
}

// keep spawns the upkeep of the control plane's certificates. What the result
// points to is set once k has waited without an error.
func (c ServerConfig) keep(k *keeper, a *Authorities) *pair {
	files := ServerFilesOf(c.Layout)
	serving := &pair{}
	k.leaf(a.Server, c.servingLeaf(), files.Serving, func(p pair) error {
		*serving = p
		return nil
	})
	k.leaf(a.Client, clientLeaf(AdminUser, AdminGroup), files.Admin, func(p pair) error {
		return c.writeAdminKubeconfig(a.Server.Bundle, p)
	})
	k.leaf(a.Client, clientLeaf(KubeletClientUser), files.KubeletClient, nil)
	k.leaf(a.RequestHeader, clientLeaf(AuthProxyUser), files.AuthProxy, nil)
	if c.Etcd {
		c.keepEtcd(k, a)
	}
	return serving
}

// servingLeaf names the API server in every way that it is called by.
func (c ServerConfig) servingLeaf() Leaf {
	var s sans
	s.add("localhost", "127.0.0.1", "::1")
	s.add("kubernetes", "kubernetes.default", "kubernetes.default.svc")
	if c.ClusterDomain != "" {
		s.add("kubernetes.default.svc." + c.ClusterDomain)
	}
	for _, cidr := range c.ServiceCIDRs {
		s.addAddr(cidr.Masked().Addr().Next())
	}
	s.add(c.Names...)
	s.addAddr(c.Addresses...)
	s.addAddr(c.Listener.AdvertiseAddress, c.Listener.BindAddress)
	s.add(c.Listener.TLSSANs...)
	return s.leaf("kube-apiserver", x509.ExtKeyUsageServerAuth)
}

// LocalURL is where clients on this host reach the API.
func LocalURL(l config.Listener) string {
	addr := l.BindAddress
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return "https://" + netip.AddrPortFrom(addr, uint16(cmp.Or(l.Port, 6443))).String()
}

func clientLeaf(user string, groups ...string) Leaf {
	return Leaf{CommonName: user, Organizations: groups, Usage: x509.ExtKeyUsageClientAuth}
}

// sans gathers subject alternative names.
type sans struct {
	names []string
	addrs []netip.Addr
}

// add takes names and addresses as people write them.
func (s *sans) add(list ...string) {
	for _, text := range list {
		if addr, err := netip.ParseAddr(text); err == nil {
			s.addAddr(addr)
		} else if text != "" {
			// Certificates hold ASCII, and names are compared without case.
			s.names = append(s.names, strings.ToLower(strings.TrimSuffix(text, ".")))
		}
	}
}

func (s *sans) addAddr(list ...netip.Addr) {
	for _, addr := range list {
		if addr.IsValid() && !addr.IsUnspecified() {
			s.addrs = append(s.addrs, addr.Unmap().WithZone(""))
		}
	}
}

// leaf makes the order and number of names independent of where they came from.
func (s *sans) leaf(user string, usage x509.ExtKeyUsage) Leaf {
	slices.Sort(s.names)
	slices.SortFunc(s.addrs, netip.Addr.Compare)
	return Leaf{
		CommonName: user,
		DNSNames:   slices.Compact(s.names),
		IPs:        slices.Compact(s.addrs),
		Usage:      usage,
	}
}
