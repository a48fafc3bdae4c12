// Package protocol is what agents and servers say to each other below
// /v1-skiff/: paths, requests, answers. It is data alone, the same on both
// sides; pkg/join, pkg/joinapi, the tunnel, the wiring and tests may import it.
// docs/join.md describes the whole.
package protocol

import (
	"net/netip"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// Paths on a server's port. The first two are open to everybody.
const (
	PathPing    = "/ping"
	PathCACerts = "/cacerts"

	// Prefix is below which everything asks for a credential.
	Prefix = "/v1-skiff/"
	// PathNode takes a NodeRequest by POST and answers with a NodeAnswer.
	PathNode = Prefix + "node"
	// PathConfig answers GET with a ClusterConfig.
	PathConfig = Prefix + "config"
	// PathServers answers GET with Servers, see QueryAfter.
	PathServers = Prefix + "apiservers"
	// PathConnect is a node's tunnel.
	PathConnect = Prefix + "connect"
	// PathToken takes a TokenRequest by POST.
	PathToken = Prefix + "token"
)

// QueryAfter is the parameter by which a reader of PathServers says what it
// has, as Servers.Version: the answer comes when there is something else, or
// after some minutes.
const QueryAfter = "after"

// HeaderVersion carries the Kubernetes version of an agent in every request
// that has no NodeRequest in it.
const HeaderVersion = "Skiff-Kubernetes-Version"

// NodeSet has one thing in PEM form for each certificate of a node: the
// signing request on the way to the server, the certificate on the way back.
type NodeSet struct {
	Serving   string `json:"serving"`   // the kubelet's
	Kubelet   string `json:"kubelet"`   // system:node:NAME
	Proxy     string `json:"proxy"`     // system:kube-proxy
	NodeAgent string `json:"nodeAgent"` // skiff:node:NAME
}

// NodeRequest asks for a node's certificates, or, without Requests, only
// whether the node may stay what it is.
type NodeRequest struct {
	// Name is the node's.
	Name string `json:"name"`
	// Password is the node's own: whoever joined first under a name keeps it.
	Password string `json:"password"`
	// Version is the agent's Kubernetes version, "v1.36.4".
	Version string `json:"version"`
	// Requests are certificate signing requests, made and kept where the node
	// runs, as are their keys. Names and addresses are in the one for Serving.
	Requests *NodeSet `json:"requests,omitempty"`
}

// NodeAnswer is what a node gets.
type NodeAnswer struct {
	Certificates *NodeSet      `json:"certificates,omitempty"`
	Cluster      ClusterConfig `json:"cluster"`
}

// Servers are the addresses, "host:port", at which the API is served.
type Servers struct {
	Servers []string `json:"servers"`
	// Version changes whenever Servers does.
	Version string `json:"version"`
	// Trust changes whenever the cluster's CAs do.
	Trust string `json:"trust,omitempty"`
}

// TokenRequest replaces the server token. An empty one has one made.
type TokenRequest struct {
	NewToken string `json:"newToken,omitempty"`
	// Agent stands for the agents' token instead.
	Agent bool `json:"agent,omitempty"`
}

// TokenAnswer is the token that holds now, in full.
type TokenAnswer struct {
	Token string `json:"token"`
	// Warning, for people, says what is left for them to do.
	Warning string `json:"warning,omitempty"`
}

// Refusal is the body of every answer that is no success. Error is for people
// and has no secret in it.
type Refusal struct {
	Error  string `json:"error"`
	Reason Reason `json:"reason"`
}

// Reason is why something was refused, for programs.
type Reason string

// The reasons.
const (
	ReasonCredential   Reason = "credential"    // 401: none, or not a good one
	ReasonForbidden    Reason = "forbidden"     // 403: good, but not for this
	ReasonNodePassword Reason = "node-password" // 403: the name is another machine's
	ReasonVersion      Reason = "version"       // 409: the agent's version does not fit
	ReasonRequest      Reason = "request"       // 400, 404, 405, 413, 415, 426, 505: not understood
	ReasonBusy         Reason = "busy"          // 429, 503: again later
)

// ClusterConfig is what a node has to know of its cluster. It is the same for
// all nodes, apart from the servers' own settings.
type ClusterConfig struct {
	// ServerVersion is the Kubernetes version of the server that answered.
	ServerVersion string `json:"serverVersion"`
	// Servers are the addresses, "host:port", at which the API is served.
	Servers []string `json:"servers"`
	// ServerCA and ClientCA are PEM bundles.
	ServerCA string `json:"serverCA"`
	ClientCA string `json:"clientCA"`
	// Trust is as in Servers, at the time of these CAs.
	Trust string `json:"trust,omitempty"`

	ClusterCIDRs  []netip.Prefix `json:"clusterCIDRs"`
	ServiceCIDRs  []netip.Prefix `json:"serviceCIDRs"`
	ClusterDNS    []netip.Addr   `json:"clusterDNS"`
	ClusterDomain string         `json:"clusterDomain"`
	NodePortRange string         `json:"nodePortRange"`
	LinkLocalDNS  netip.Addr     `json:"linkLocalDNS"`

	FlannelBackend  string `json:"flannelBackend"`
	FlannelIPv6Masq bool   `json:"flannelIPv6Masq"`
	FlannelExternal bool   `json:"flannelExternalIP"`
	EgressSelector  string `json:"egressSelectorMode"`

	DisableDNS             bool `json:"disableDNS"`
	DisableKubeProxy       bool `json:"disableKubeProxy"`
	DisableCloudController bool `json:"disableCloudController"`
	DisableNetworkPolicy   bool `json:"disableNetworkPolicy"`
}

// SetNetwork takes over what a server was told about the network.
func (c *ClusterConfig) SetNetwork(n config.Network) {
	c.ClusterCIDRs, c.ServiceCIDRs = n.ClusterCIDRs, n.ServiceCIDRs
	c.ClusterDNS, c.ClusterDomain, c.LinkLocalDNS = n.ClusterDNS, n.ClusterDomain, n.LinkLocalDNS
	c.NodePortRange = n.NodePortRange
	c.FlannelBackend, c.FlannelIPv6Masq, c.FlannelExternal = n.FlannelBackend, n.FlannelIPv6Masq, n.FlannelExternal
	c.EgressSelector, c.DisableNetworkPolicy = n.EgressSelector, n.DisableNetPolicy
}

// Network is SetNetwork's reverse: the cluster's part of a node's network
// settings over those that are the node's own, which local has.
func (c ClusterConfig) Network(local config.Network) config.Network {
	n := local
	n.ClusterCIDRs, n.ServiceCIDRs = c.ClusterCIDRs, c.ServiceCIDRs
	n.ClusterDNS, n.ClusterDomain, n.LinkLocalDNS = c.ClusterDNS, c.ClusterDomain, c.LinkLocalDNS
	n.NodePortRange = c.NodePortRange
	n.FlannelBackend, n.FlannelIPv6Masq, n.FlannelExternal = c.FlannelBackend, c.FlannelIPv6Masq, c.FlannelExternal
	n.EgressSelector, n.DisableNetPolicy = c.EgressSelector, c.DisableNetworkPolicy
	return n
}
