package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// NodeSet has one PEM text for each of a node's certificates: signing requests
// or certificates.
type NodeSet struct {
	Serving   string
	Kubelet   string
	Proxy     string
	NodeAgent string
}

// minRSABits is what a request's RSA key has to have at least.
const minRSABits = 2048

// oidSubjectAltName is the one extension that a request may have.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// NodeLeaves are the certificates of a node with this name, with no other
// names and addresses in the kubelet's serving certificate.
func NodeLeaves(name string) (serving, kubelet, proxy, nodeAgent Leaf) {
	serving = Leaf{CommonName: NodeUserPrefix + name, Organizations: []string{NodeGroup}, DNSNames: []string{name}, Usage: x509.ExtKeyUsageServerAuth}
	return serving, clientLeaf(NodeUserPrefix+name, NodeGroup), clientLeaf(ProxyUser), clientLeaf(NodeAgentUserPrefix+name, NodeAgentGroup)
}

// Request is a checked signing request: its signature and its key are good, and
// it asks for nothing that Leaf does not have a place for.
type Request struct {
	Leaf   Leaf // without Usage, which the signer decides
	public crypto.PublicKey
}

// ParseRequest reads one signing request. The error says what is wrong with it.
func ParseRequest(text string) (Request, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != blockRequest || strings.TrimSpace(string(rest)) != "" {
		return Request{}, errors.New("it is not one CERTIFICATE REQUEST in PEM form")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return Request{}, fmt.Errorf("it cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, fmt.Errorf("its signature is not its key's: %w", err)
	}
	if err := strong(csr.PublicKey); err != nil {
		return Request{}, err
	}
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			return Request{}, fmt.Errorf("it asks for the extension %s, which nodes do not get", e.Id)
		}
	}
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return Request{}, errors.New("it asks for an e-mail address or a URI, which nodes do not get")
	}
	s := csr.Subject
	if len(s.Names) != len(s.Organization)+1 {
		return Request{}, errors.New("its subject has other parts than one common name and organizations")
	}
	var names sans
	names.names = append(names.names, csr.DNSNames...)
	names.addAddr(addrs(csr.IPAddresses)...)
	if len(names.addrs) != len(csr.IPAddresses) {
		return Request{}, errors.New("it asks for an address that is none of one host")
	}
	leaf := names.leaf(s.CommonName, 0)
	leaf.Usage = 0
	leaf.Organizations = s.Organization
	return Request{Leaf: leaf, public: csr.PublicKey}, nil
}

func strong(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("its key is weak: ECDSA of %d bits, at least 256 are wanted", bits)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > 8192 {
			return fmt.Errorf("its key is RSA of %d bits; from %d to 8192 are taken", bits, minRSABits)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("its key is of a kind that is not taken (%T): use ECDSA, RSA or Ed25519", key)
	}
	return nil
}

// Asks says whether a request is for the subject of a leaf.
func (r Request) Asks(spec Leaf) bool {
	return r.Leaf.CommonName == spec.CommonName && slices.Equal(r.Leaf.Organizations, spec.Organizations)
}

// SignRequest issues a certificate for the key of a request: it says what spec
// says, whatever the request asks for.
func (a *Authority) SignRequest(spec Leaf, r Request, now time.Time) (string, error) {
	data, err := a.Sign(spec, r.public, now)
	return string(data), err
}
