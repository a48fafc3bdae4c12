package pki

import (
	"crypto/x509"
	"net/netip"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// NodeConfig is what a node's certificates depend on.
type NodeConfig struct {
	Layout layout.Layout
	// Name is the node's; Names are what else it is called by.
	Name  string
	Names []string
	// Addresses of the node, inner and outer.
	Addresses []netip.Addr
	// APIServer is the URL in the node's kubeconfigs, see LocalURL.
	APIServer string
}

// keep spawns the upkeep of a node's certificates and kubeconfigs.
func (c NodeConfig) keep(k *keeper, a *Authorities) {
	files := NodeFilesOf(c.Layout)
	k.spawn(func() error { return writePublic(files.ServerCA, a.Server.Bundle) })
	k.spawn(func() error { return writePublic(files.ClientCA, a.Client.Bundle) })

	k.leaf(a.Server, c.servingLeaf(), files.Serving, nil)
	c.keepClient(k, a, clientLeaf(NodeUserPrefix+c.Name, NodeGroup), files.Kubelet, files.KubeletConfig)
	c.keepClient(k, a, clientLeaf(ProxyUser), files.Proxy, files.ProxyConfig)
	c.keepClient(k, a, clientLeaf(NodeAgentUserPrefix+c.Name, NodeAgentGroup), files.NodeAgent, files.NodeAgentConfig)
}

// servingLeaf is the kubelet's, whom the API server calls by name or address.
// Its subject is the one that kubelets ask for when they request certificates.
func (c NodeConfig) servingLeaf() Leaf {
	var s sans
	s.add("localhost", "127.0.0.1", "::1", c.Name)
	s.add(c.Names...)
	s.addAddr(c.Addresses...)
	leaf := s.leaf(NodeUserPrefix+c.Name, x509.ExtKeyUsageServerAuth)
	leaf.Organizations = []string{NodeGroup}
	return leaf
}

// keepClient keeps a client certificate and the kubeconfig that names it. The
// kubeconfig refers to files, because clients read those again after a renewal.
func (c NodeConfig) keepClient(k *keeper, a *Authorities, spec Leaf, files CertKey, kubeconfigPath string) {
	k.leaf(a.Client, spec, files, nil)
	k.spawn(func() error { return c.writeKubeconfig(kubeconfigPath, files) })
}

func (c NodeConfig) writeKubeconfig(path string, files CertKey) error {
	data := kubeconfig{
		name:       "default",
		server:     c.APIServer,
		caFile:     NodeFilesOf(c.Layout).ServerCA,
		clientFile: files,
	}.render()
	_, err := atomicfile.WriteIfChanged(path, data, secretMode)
	return err
}

func writePublic(path string, data []byte) error {
	_, err := atomicfile.WriteIfChanged(path, data, publicMode)
	return err
}
