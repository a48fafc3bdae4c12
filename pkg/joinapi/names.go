package joinapi

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skiff-k8s/skiff/pkg/pki"
)

// maxNames bounds names, and addresses, in one certificate.
const maxNames = 32

// checkNames decides whether a node may have these names and addresses in the
// kubelet's serving certificate. Servers' and kubelets' certificates have one
// CA, so a node must get nothing by which it could stand in for a server or
// for another node.
func (a *API) checkNames(node string, leaf pki.Leaf) error {
	if len(leaf.DNSNames) > maxNames || len(leaf.IPs) > maxNames {
		return badRequest("node %s asks for more than %d names or addresses", node, maxNames)
	}
	names, addrs, err := a.cfg.Serving.Names()
	if err != nil {
		return err
	}
	for _, name := range withName(leaf.DNSNames, node) {
		switch {
		case len(validation.IsDNS1123Subdomain(name)) > 0:
			return badRequest("%.64q is no DNS name: correct --node-internal-dns or --node-external-dns", name)
		case slices.Contains(names, name), a.ofCluster(name):
			return badRequest("the name %s is the API's or the cluster's own: no node may have it; choose another --node-name, --node-internal-dns or --node-external-dns", name)
		}
		if owner := a.nodes.named(name); owner != "" && owner != node {
			return badRequest("the name %s is node %s's", name, owner)
		}
	}
	for _, addr := range leaf.IPs {
		switch {
		case !usable(addr):
			return badRequest("%s cannot be a node's address", addr)
		case slices.Contains(addrs, addr), a.servers.has(addr):
			return badRequest("the address %s is a server's: no node may have it; correct --node-ip or --node-external-ip", addr)
		case a.inCluster(addr):
			return badRequest("the address %s is one of the cluster's Services or pods; correct --node-ip or --node-external-ip", addr)
		}
		if owner := a.nodes.at(addr); owner != "" && owner != node {
			return badRequest("the address %s is in use by node %s, which is Ready; if that machine has it no longer: skiff kubectl delete node %s", addr, owner, owner)
		}
	}
	return nil
}

// withName is names with the node's own among them, sorted.
func withName(names []string, node string) []string {
	if !slices.Contains(names, node) {
		names = append(slices.Clone(names), node)
		slices.Sort(names)
	}
	return names
}

// ofCluster says whether a name is one by which Services, the API's among them,
// are called, or the loopback interface.
func (a *API) ofCluster(name string) bool {
	domain := a.cfg.Cluster.ClusterDomain
	first, _, _ := strings.Cut(name, ".")
	return first == "localhost" || strings.HasSuffix(name, ".localhost") || name == "kubernetes" || strings.HasPrefix(name, "kubernetes.default") ||
		strings.HasSuffix(name, ".svc") || name == domain || domain != "" && strings.HasSuffix(name, "."+domain)
}

func usable(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (a *API) inCluster(addr netip.Addr) bool {
	return slices.ContainsFunc(slices.Concat(a.cfg.Cluster.ServiceCIDRs, a.cfg.Cluster.ClusterCIDRs), func(p netip.Prefix) bool { return p.Contains(addr) })
}
