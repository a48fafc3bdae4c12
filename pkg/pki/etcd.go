package pki

import (
	"crypto/x509"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// EtcdFiles are those of the embedded etcd. Its CAs sign for nothing else, so
// that a client certificate of the cluster opens no datastore.
type EtcdFiles struct {
	ServerCA CertKey // signs the certificates of servers and of their clients
	PeerCA   CertKey // signs those by which servers know each other

	Server CertKey // for clients
	Client CertKey // the API server's and our own
	Peer   CertKey // both ends of connections between servers
}

// EtcdFilesOf names them in a layout.
func EtcdFilesOf(l layout.Layout) EtcdFiles {
	pair := func(name string) CertKey {
		return CertKey{Cert: l.TLSFile("etcd/" + name + ".crt"), Key: l.TLSFile("etcd/" + name + ".key")}
	}
	return EtcdFiles{
		ServerCA: pair("server-ca"),
		PeerCA:   pair("peer-ca"),
		Server:   pair("server-client"),
		Client:   pair("client"),
		Peer:     pair("peer-server-client"),
	}
}

// keepEtcd spawns the upkeep of the embedded etcd's certificates.
func (c ServerConfig) keepEtcd(k *keeper, a *Authorities) {
	files := EtcdFilesOf(c.Layout)
	var s sans
	s.add("localhost", "127.0.0.1", "::1")
	s.add(c.Names...)
	s.addAddr(c.Addresses...)
	server := s.leaf("etcd-server", x509.ExtKeyUsageServerAuth)
	peer := server
	peer.CommonName, peer.Mutual = "etcd-peer", true
	k.leaf(a.EtcdServer, server, files.Server, nil)
	k.leaf(a.EtcdServer, clientLeaf("etcd-client"), files.Client, nil)
	k.leaf(a.EtcdPeer, peer, files.Peer, nil)
}
