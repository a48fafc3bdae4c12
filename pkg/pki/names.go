package pki

import "github.com/skiff-k8s/skiff/pkg/layout"

// Names that certificates carry and that other parts must be told of.
const (
	// AdminUser and AdminGroup are the administrator's kubeconfig. The group is
	// the one that upstream lets past RBAC, so that the file works while the
	// roles are not there yet and when someone broke them. A weaker group would
	// protect nothing: who can read the file can read the client CA's key.
	AdminUser  = "system:admin"
	AdminGroup = "system:masters"

	// KubeletClientUser is the API server when it calls kubelets. It is no
	// superuser: RBAC binds it to system:kubelet-api-admin.
	KubeletClientUser = "kube-apiserver-kubelet-client"

	// AuthProxyUser is the API server when it calls aggregated API servers, the
	// one name for --requestheader-allowed-names.
	AuthProxyUser = "system:auth-proxy"

	// NodeUserPrefix and NodeGroup are a kubelet, as upstream's node authoriser
	// wants them.
	NodeUserPrefix = "system:node:"
	NodeGroup      = "system:nodes"

	// ProxyUser is kube-proxy; upstream binds system:node-proxier to it.
	ProxyUser = "system:kube-proxy"

	// NodeAgentUserPrefix and NodeAgentGroup are the parts of a node that are
	// ours: pod network, network policy and DNS. The node authoriser would not
	// let a kubelet's identity list other nodes, so RBAC grants what they need.
	NodeAgentUserPrefix = "skiff:node:"
	NodeAgentGroup      = "skiff:nodes"
)

// CertKey names the two files of a certificate.
type CertKey struct {
	Cert string // 0644
	Key  string // 0600
}

// ServerFiles are the control plane's files.
type ServerFiles struct {
	ServerCA        CertKey // signs serving certificates
	ClientCA        CertKey // signs client certificates
	RequestHeaderCA CertKey // signs the front proxy's client certificate

	// The certificates that sign, alone, for the controller manager.
	ServerSigner, ClientSigner string

	ServiceAccountKey string // signs tokens
	ServiceAccountPub string // verifies tokens, public keys only

	Serving       CertKey // the API server's
	Admin         CertKey // AdminUser
	KubeletClient CertKey // KubeletClientUser
	AuthProxy     CertKey // AuthProxyUser
}

// ServerFilesOf names the control plane's files in a layout.
func ServerFilesOf(l layout.Layout) ServerFiles {
	pair := func(name string) CertKey {
		return CertKey{Cert: l.TLSFile(name + ".crt"), Key: l.TLSFile(name + ".key")}
	}
	return ServerFiles{
		ServerCA:          pair("server-ca"),
		ClientCA:          pair("client-ca"),
		RequestHeaderCA:   pair("request-header-ca"),
		ServerSigner:      l.TLSFile("server-ca.nochain.crt"),
		ClientSigner:      l.TLSFile("client-ca.nochain.crt"),
		ServiceAccountKey: l.TLSFile("service.key"),
		ServiceAccountPub: l.TLSFile("service.pub"),
		Serving:           pair("serving-kube-apiserver"),
		Admin:             pair("client-admin"),
		KubeletClient:     pair("client-kube-apiserver"),
		AuthProxy:         pair("client-auth-proxy"),
	}
}

// NodeFiles are a node's files.
type NodeFiles struct {
	ServerCA string // whom the node's clients trust
	ClientCA string // whom the kubelet trusts

	Serving   CertKey // the kubelet's
	Kubelet   CertKey // NodeUserPrefix + name
	Proxy     CertKey // ProxyUser
	NodeAgent CertKey // NodeAgentUserPrefix + name

	KubeletConfig   string // kubeconfigs that name the files above, 0600
	ProxyConfig     string
	NodeAgentConfig string
}

// NodeFilesOf names a node's files in a layout.
func NodeFilesOf(l layout.Layout) NodeFiles {
	pair := func(name string) CertKey {
		return CertKey{Cert: l.AgentFile(name + ".crt"), Key: l.AgentFile(name + ".key")}
	}
	return NodeFiles{
		ServerCA:        l.AgentFile("server-ca.crt"),
		ClientCA:        l.AgentFile("client-ca.crt"),
		Serving:         pair("serving-kubelet"),
		Kubelet:         pair("client-kubelet"),
		Proxy:           pair("client-kube-proxy"),
		NodeAgent:       pair("client-skiff-node"),
		KubeletConfig:   l.AgentFile("kubelet.kubeconfig"),
		ProxyConfig:     l.AgentFile("kube-proxy.kubeconfig"),
		NodeAgentConfig: l.AgentFile("skiff-node.kubeconfig"),
	}
}
