// Package config turns flags, SKIFF_* environment variables and configuration
// files into typed values that are validated whole and never change afterwards.
// Command-line and wiring packages import it; a component's constructor takes
// only its own sub-struct by value. It imports layout and version and no
// component.
package config

//go:generate go run github.com/skiff-k8s/skiff/scripts/flagdocs -o ../../docs/flags.md

import (
	"io/fs"
	"net/netip"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Server is everything that `skiff server` was told, validated.
type Server struct {
	Layout  layout.Layout
	Logging Logging
	Join    Join
	// LoadBalancer matters to a machine that joins others.
	LoadBalancer LoadBalancer
	Listener     Listener
	Network      Network
	Kubeconfig   Kubeconfig
	Datastore    Datastore
	Encryption   Encryption
	Snapshots    Snapshots
	Reset        Reset

	APIServer         Args
	ControllerManager Args
	Scheduler         Args

	// Disable names packaged parts that are left out, see DisableNames.
	Disable []string
	// DisableScheduler and DisableKubeProxy leave out one component.
	DisableScheduler bool
	DisableKubeProxy bool
	// DisableCloudController leaves nodes' external addresses and provider IDs
	// to a cloud controller manager of the user's.
	DisableCloudController bool
	// DisableAgent leaves out the whole node part: no containerd, no kubelet.
	DisableAgent bool
	// EnablePprof serves Go's profiles below /debug/pprof, to administrators.
	EnablePprof bool
	// Profile is how memory is traded for processor time: auto, tiny, small
	// or default.
	Profile string

	Node Node
}

// Agent is everything that `skiff agent` was told, validated. What concerns the
// whole cluster it learns from the server that it joins.
type Agent struct {
	Layout       layout.Layout
	Logging      Logging
	Join         Join
	LoadBalancer LoadBalancer
	// FlannelIface, FlannelConf and FlannelCNIConf are as in Network.
	FlannelIface   string
	FlannelConf    string
	FlannelCNIConf string
	// EnablePprof serves the kubelet's profiles, to administrators.
	EnablePprof bool
	// Profile is as in Server.
	Profile string

	Node Node
}

// LoadBalancer is an agent's way to the servers for other programs of its
// machine. Its own components need no port.
type LoadBalancer struct {
	Port    int  // on the loopback interface, default 6444
	Disable bool // no port at all
}

// Join is how a machine becomes part of a cluster.
type Join struct {
	Server    string // URL of the server to join, https://HOST:PORT
	Token     Secret // "": TokenFile, or none
	TokenFile string
	// AgentToken lets machines join as agents and no more; only servers have
	// it. "": AgentTokenFile, or none.
	AgentToken     Secret
	AgentTokenFile string
}

// Disabled says whether a packaged part was named in --disable.
func (s Server) Disabled(name string) bool {
	for _, d := range s.Disable {
		if d == name {
			return true
		}
	}
	return false
}

// Logging decides what is logged and where.
type Logging struct {
	Debug           bool   // Skiff's own debug messages
	Verbosity       int    // klog's -v for the Kubernetes components
	VModule         string // klog's --vmodule
	File            string // --log: write here instead of standard error
	AlsoToStderr    bool   // with File: to both
	Format          string // "text" or "json"
	ComponentLevels map[string]string
}

// Listener is where the API is served and how it is spoken of.
type Listener struct {
	BindAddress      netip.Addr // --bind-address, default 0.0.0.0
	Port             int        // --https-listen-port, default 6443
	AdvertiseAddress netip.Addr // zero: the node's external, else internal address
	AdvertisePort    int        // default Port
	TLSSANs          []string   // extra names and addresses in the serving certificate
}

// Network holds the addresses of the cluster.
type Network struct {
	ClusterCIDRs  []netip.Prefix // one per address family, default 10.42.0.0/16
	ServiceCIDRs  []netip.Prefix // one per address family, default 10.43.0.0/16
	NodePortRange string         // "30000-32767"
	ClusterDNS    []netip.Addr   // address of the kube-dns Service, default 10th of ServiceCIDRs
	ClusterDomain string         // "cluster.local"

	FlannelBackend   string // vxlan, host-gw, wireguard-native, none
	FlannelIface     string // empty: the interface of the node's address
	FlannelConf      string // path of a net-conf.json that replaces ours
	FlannelCNIConf   string // path of a CNI list that replaces ours
	FlannelIPv6Masq  bool
	FlannelExternal  bool
	EgressSelector   string // what servers reach through tunnels: agent, pod, cluster, disabled
	LinkLocalDNS     netip.Addr
	DisableNetPolicy bool
}

// Kubeconfig says where and how the administrator's kubeconfig is written.
type Kubeconfig struct {
	Output string      // empty: layout's
	Mode   fs.FileMode // 0600
	Group  string      // empty: unchanged
	Name   string      // context, cluster and user name, "default"
}

// DatastoreKind is what keeps the cluster's state.
type DatastoreKind string

// The kinds.
const (
	DatastoreSQLite   DatastoreKind = "sqlite"   // one file, for one server
	DatastoreEtcd     DatastoreKind = "etcd"     // embedded, for one server or several
	DatastoreExternal DatastoreKind = "external" // a database that runs elsewhere
)

// Datastore says where the cluster's state is kept.
type Datastore struct {
	// Kind is what the settings ask for. A data directory in which there is an
	// etcd member already has precedence over DatastoreSQLite.
	Kind DatastoreKind
	// Endpoint is an external database's URL, which may hold a password;
	// the files are PEM, "" for none.
	Endpoint                  Secret
	CAFile, CertFile, KeyFile string
	// ClusterInit makes this server the first of several.
	ClusterInit bool
	// Etcd are extra arguments for the embedded etcd; EtcdMetrics serves its
	// metrics to everybody.
	Etcd        Args
	EtcdMetrics bool
	// MaxOpen bounds the connections to an external SQL database.
	MaxOpen int

	// SlowQuery is how long a statement may take before it is logged.
	SlowQuery time.Duration
	// CompactInterval is the time between compactions; 0 leaves the
	// decision to the API server.
	CompactInterval time.Duration
}

// Encryption is how Secrets are kept in the datastore.
type Encryption struct {
	// Enabled lets a new cluster encrypt them; one that was there before stays
	// as it is.
	Enabled bool
	// Provider is for keys that are made from now on, see
	// EncryptionProviders.
	Provider string
}

// EncryptionProviders are the ways to encrypt, the first the usual one.
func EncryptionProviders() []string { return []string{"secretbox", "aescbc"} }

// Reset makes a server the only one of its cluster, instead of running it.
type Reset struct {
	Enable   bool
	Snapshot string // a file or a name; "": what the server has
}

// Snapshots says when copies of the cluster's state are made, and where they are
// kept.
type Snapshots struct {
	Disable   bool   // none on a schedule
	Schedule  string // a cron expression
	Retention int    // how many of the schedule's stay; 0: all
	Name      string // what their names begin with
	Directory string
	S3        S3
}

// S3 is a bucket in which snapshots are kept, too.
type S3 struct {
	Enable       bool
	Endpoint     string // HOST or HOST:PORT
	EndpointCA   string // file, "" for the machine's
	SkipVerify   bool
	Insecure     bool // no TLS
	Bucket       string
	BucketLookup string // auto, dns, path
	Region       string
	Folder       string
	AccessKey    Secret
	SecretKey    Secret
	SessionToken Secret
	// ConfigSecret names a Secret in kube-system from which the rest is read
	// when Bucket is empty.
	ConfigSecret string
	Retention    int
	Timeout      time.Duration
}

// Args are extra arguments for an upstream component, in the order given,
// each as "name=value" without leading dashes. They win over Skiff's own.
type Args struct {
	Extra []string
}

// Node is what the node part was told; agents have the same.
type Node struct {
	Name        string
	WithNodeID  bool
	IPs         []netip.Addr // --node-ip; empty: from the default route, else the first usable link
	ExternalIPs []netip.Addr
	InternalDNS []string
	ExternalDNS []string
	Labels      []string // key=value
	Taints      []string // key=value:Effect or key:Effect
	ResolvConf  string   // empty: found, avoiding systemd-resolved's stub

	Kubelet Args
	Proxy   Args

	ContainerRuntimeEndpoint string // unix:///path; empty: the embedded containerd
	ImageServiceEndpoint     string
	Snapshotter              string // "overlayfs"
	DefaultRuntime           string // "runc"
	PauseImage               string // empty: the embedded one
	NonrootDevices           bool
	SELinux                  bool
	ProtectKernelDefaults    bool

	ImageCredentialProviderBinDir string
	ImageCredentialProviderConfig string
	PrivateRegistry               string // registries.yaml
	DisableDefaultRegistry        bool
	PreferBundledBin              bool

	// CgroupRoot is the cgroup below which everything of this node lives;
	// empty: the root. Two kubelets must not share one.
	CgroupRoot string
}
