package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
)

// writeCredentials makes what `kubeadm init phase certs` and `kubeconfig` make,
// with the package that makes Skiff's own.
func (s *stock) writeCredentials() error {
	h, log := s.host, logrus.New()
	log.SetOutput(io.Discard)
	outside := layout.Layout{Data: h.Path(stockData), Config: h.Path(stockData), Run: h.Path("/run/stock")}
	certs, err := pki.Ensure(pki.Config{Server: &pki.ServerConfig{
		Layout:        outside,
		Listener:      config.Listener{BindAddress: netip.IPv4Unspecified(), Port: 6443, AdvertisePort: 6443, AdvertiseAddress: h.Address()},
		Kubeconfig:    config.Kubeconfig{Name: "default", Mode: 0o600},
		ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix(serviceRange)},
		ClusterDomain: "cluster.local",
		Names:         []string{h.Hostname()},
		Addresses:     []netip.Addr{h.Address()},
	}}, time.Now(), logrus.NewEntry(log))
	if err != nil {
		return err
	}
	ca := certs.Authorities
	local := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), h.Address()}
	etcd := pki.Leaf{CommonName: "etcd", DNSNames: []string{"localhost"}, IPs: local, Usage: x509.ExtKeyUsageServerAuth}
	if err := s.writePair("/etcd", ca.Server, etcd); err != nil {
		return err
	}
	if err := s.writePair("/apiserver-etcd-client", ca.Client, clientLeaf("kube-apiserver-etcd-client")); err != nil {
		return err
	}
	users := map[string]pki.Leaf{
		"/admin.conf":              clientLeaf("kubernetes-admin", "system:masters"),
		"/controller-manager.conf": clientLeaf("system:kube-controller-manager"),
		"/scheduler.conf":          clientLeaf("system:kube-scheduler"),
		"/proxy.conf":              clientLeaf(pki.ProxyUser),
		"/kubelet.conf":            clientLeaf(pki.NodeUserPrefix+h.Hostname(), pki.NodeGroup),
	}
	for file, leaf := range users {
		if err := s.writeKubeconfig(file, ca, leaf); err != nil {
			return err
		}
	}
	return nil
}

func clientLeaf(user string, groups ...string) pki.Leaf {
	return pki.Leaf{CommonName: user, Organizations: groups, Usage: x509.ExtKeyUsageClientAuth}
}

func issue(ca *pki.Authority, leaf pki.Leaf) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if cert, err = ca.Sign(leaf, private.Public(), time.Now()); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(private)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

func (s *stock) writePair(file string, ca *pki.Authority, leaf pki.Leaf) error {
	cert, key, err := issue(ca, leaf)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.host.Path(stockEtc+file+".crt"), cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(s.host.Path(stockEtc+file+".key"), key, 0o600)
}

func (s *stock) writeKubeconfig(file string, ca *pki.Authorities, leaf pki.Leaf) error {
	cert, key, err := issue(ca.Client, leaf)
	if err != nil {
		return err
	}
	c := api.NewConfig()
	c.Clusters["stock"] = &api.Cluster{Server: "https://" + s.host.Address().String() + ":6443", CertificateAuthorityData: ca.Server.Bundle}
	c.AuthInfos["user"] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts["stock"] = &api.Context{Cluster: "stock", AuthInfo: "user"}
	c.CurrentContext = "stock"
	return clientcmd.WriteToFile(*c, s.host.Path(stockEtc+file))
}
