package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// NodeKeys are the keys of a node whose certificates somebody else issues. They
// never leave the machine.
type NodeKeys struct {
	cfg  NodeConfig
	keys [4][]byte // PEM, in the order of NodeSet
}

// NewNodeKeys makes keys and the signing requests to go with them. Nothing is
// written before Install.
//
// With keep, keys that are there and belong to their certificates are used
// again: programs that start meanwhile, the kubelet among them, read
// certificate and key one after the other and end over a pair that does not
// match.
func NewNodeKeys(cfg NodeConfig, keep bool) (*NodeKeys, NodeSet, error) {
	serving := cfg.agentServingLeaf()
	_, kubelet, proxy, nodeAgent := NodeLeaves(cfg.Name)
	k := &NodeKeys{cfg: cfg}
	pairs := nodePairs(cfg.Layout)
	var requests [4]string
	for i, spec := range []Leaf{serving, kubelet, proxy, nodeAgent} {
		p, reason := readSwapped(pairs[i])
		key, keyPEM, err := keyOf(pairs[i], p, keep && reason == "")
		if err != nil {
			return nil, NodeSet{}, err
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject:     pkix.Name{CommonName: spec.CommonName, Organization: spec.Organizations},
			DNSNames:    spec.DNSNames,
			IPAddresses: netIPs(spec.IPs),
		}, key)
		if err != nil {
			return nil, NodeSet{}, fmt.Errorf("making a signing request for %s: %w", spec.CommonName, err)
		}
		k.keys[i] = keyPEM
		requests[i] = string(pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: der}))
	}
	return k, NodeSet{Serving: requests[0], Kubelet: requests[1], Proxy: requests[2], NodeAgent: requests[3]}, nil
}

// nodePairs are the files of a node's certificates, in the order of NodeSet.
func nodePairs(l layout.Layout) [4]CertKey {
	files := NodeFilesOf(l)
	return [4]CertKey{files.Serving, files.Kubelet, files.Proxy, files.NodeAgent}
}

// agentServingLeaf is the kubelet's where it is no server's: localhost is left
// out. Servers' and kubelets' certificates have one CA, and a kubelet's that
// were good for localhost could stand in for the API behind every node's local
// load balancer.
func (c NodeConfig) agentServingLeaf() Leaf {
	var s sans
	s.add(c.Name)
	s.add(c.Names...)
	s.addAddr(c.Addresses...)
	leaf := s.leaf(NodeUserPrefix+c.Name, x509.ExtKeyUsageServerAuth)
	leaf.Organizations = []string{NodeGroup}
	return leaf
}

// Install checks the certificates that were issued for the keys and writes
// them, the CAs and the kubeconfigs. When it fails or is cut short, each pair
// of files is the old or the new one; ReadNode puts right what is in between.
func (k *NodeKeys) Install(certs NodeSet, serverCA, clientCA string) error {
	l := k.cfg.Layout
	if err := makeDirs(l.Data, l.Agent()); err != nil {
		return err
	}
	files := NodeFilesOf(l)
	pairs := nodePairs(l)
	issued := []string{certs.Serving, certs.Kubelet, certs.Proxy, certs.NodeAgent}
	for i := range pairs {
		if _, err := tls.X509KeyPair([]byte(issued[i]), k.keys[i]); err != nil {
			return fmt.Errorf("the server issued a certificate that is none for this node's key (%s): %w", pairs[i].Cert, err)
		}
	}
	if err := writePublic(files.ServerCA, []byte(serverCA)); err != nil {
		return err
	}
	if err := writePublic(files.ClientCA, []byte(clientCA)); err != nil {
		return err
	}
	for i := range pairs {
		if err := swapPair(pairs[i], []byte(issued[i]), k.keys[i]); err != nil {
			return err
		}
	}
	return k.cfg.WriteKubeconfigs()
}

// WriteKubeconfigs writes the node's kubeconfigs, which name its files.
func (c NodeConfig) WriteKubeconfigs() error {
	files := NodeFilesOf(c.Layout)
	for path, pair := range map[string]CertKey{
		files.KubeletConfig: files.Kubelet, files.ProxyConfig: files.Proxy, files.NodeAgentConfig: files.NodeAgent,
	} {
		if err := c.writeKubeconfig(path, pair); err != nil {
			return err
		}
	}
	return nil
}

// nextKey is where a key waits for its certificate.
func nextKey(files CertKey) string { return files.Key + ".next" }

// swapPair replaces a pair so that none is lost whenever it is cut short: the
// new key, then the certificate, then the key takes its place.
func swapPair(files CertKey, certPEM, keyPEM []byte) error {
	if err := atomicfile.Write(nextKey(files), keyPEM, secretMode); err != nil {
		return err
	}
	if err := atomicfile.Write(files.Cert, certPEM, publicMode); err != nil {
		return err
	}
	return takeNextKey(files)
}

func takeNextKey(files CertKey) error {
	if err := os.Rename(nextKey(files), files.Key); err != nil {
		return fmt.Errorf("putting a key into place: %w", err)
	}
	return nil
}

// NodeStatus is how a node's certificates are.
type NodeStatus struct {
	// Due is when the first of them is to be renewed, Expires when the first
	// of them is of no use any more.
	Due, Expires time.Time
	// Names and Addresses are those of the kubelet's serving certificate.
	Names     []string
	Addresses []string
}

// ReadNode looks at the certificates that Install wrote for a node, and
// finishes what was cut short. The error is fs.ErrNotExist when the node never
// joined, and else says which file cannot be used.
func ReadNode(l layout.Layout, name string) (NodeStatus, error) {
	files := NodeFilesOf(l)
	ca, err := os.ReadFile(files.ServerCA)
	if err != nil {
		return NodeStatus{}, fmt.Errorf("reading the server CA: %w", err)
	}
	if _, err := parseCerts(files.ServerCA, ca); err != nil {
		return NodeStatus{}, err
	}
	serving, kubelet, proxy, nodeAgent := NodeLeaves(name)
	var status NodeStatus
	for _, want := range []struct {
		files CertKey
		spec  Leaf
	}{{files.Serving, serving}, {files.Kubelet, kubelet}, {files.Proxy, proxy}, {files.NodeAgent, nodeAgent}} {
		p, reason := readSwapped(want.files)
		if reason == "" && p.cert.Subject.CommonName != want.spec.CommonName {
			reason = fmt.Sprintf("it is for %s, not for %s", p.cert.Subject.CommonName, want.spec.CommonName)
		}
		if reason != "" {
			return NodeStatus{}, &unusable{want.files.Cert, reason}
		}
		status.add(p.cert)
		if want.files == files.Serving {
			status.Names = p.cert.DNSNames
			for _, a := range addrs(p.cert.IPAddresses) {
				status.Addresses = append(status.Addresses, a.String())
			}
		}
	}
	return status, nil
}

func (s *NodeStatus) add(c *x509.Certificate) {
	if due := renewAt(c); s.Due.IsZero() || due.Before(s.Due) {
		s.Due = due
	}
	if s.Expires.IsZero() || c.NotAfter.Before(s.Expires) {
		s.Expires = c.NotAfter
	}
}

// unusable is a node's certificate that has to be asked for again.
type unusable struct{ file, reason string }

func (e *unusable) Error() string { return e.file + ": " + e.reason }

// readSwapped is readLeaf for pairs that swapPair wrote.
func readSwapped(files CertKey) (pair, string) {
	p, reason := readLeaf(files)
	if reason == "" {
		return p, ""
	}
	next := CertKey{Cert: files.Cert, Key: nextKey(files)}
	if q, why := readLeaf(next); why == "" {
		if err := takeNextKey(files); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return q, err.Error()
		}
		return q, ""
	}
	return p, reason
}

// ServingNames are the names and addresses that NewNodeKeys asks for, as
// ReadNode gives them.
func ServingNames(cfg NodeConfig) (names, addresses []string) {
	leaf := cfg.agentServingLeaf()
	for _, a := range leaf.IPs {
		addresses = append(addresses, a.String())
	}
	return leaf.DNSNames, addresses
}
