package config

import "github.com/skiff-k8s/skiff/pkg/layout"

// ConfigFlag names the flag that names the configuration file.
const ConfigFlag = "config"

func configFlags() []Flag {
	return in(CategoryConfig, everywhere([]Flag{
		{Name: ConfigFlag, Aliases: []string{"c"}, EnvAlias: []string{"SKIFF_CONFIG_FILE"}, Metavar: "FILE", Path: true,
			Default: layout.Default().ConfigFile(),
			Usage:   "read settings from FILE, then from FILE.d/*.yaml in alphabetical order"},
		{Name: "debug", Usage: "log Skiff's own debug messages",
			field: func(s *Server) any { return &s.Logging.Debug }},
		{Name: "v", Metavar: "LEVEL", Default: "0", Usage: "log Kubernetes' messages up to this verbosity, 0 to 10",
			check: between(0, 10),
			field: func(s *Server) any { return &s.Logging.Verbosity }},
		{Name: "vmodule", Metavar: "PATTERN=LEVEL,...", Usage: "verbosity of single source files of Kubernetes, such as reflector=4",
			check: vmodule,
			field: func(s *Server) any { return &s.Logging.VModule }},
		{Name: "log-level", Metavar: "COMPONENT=LEVEL", Usage: "level of one component: error, warning, info, debug or trace",
			check: componentLevel,
			field: func(s *Server) any { return &s.Logging.ComponentLevels }},
		{Name: "log-format", Default: "text", Values: []string{"text", "json"}, Usage: "how log lines are written",
			field: func(s *Server) any { return &s.Logging.Format }},
		{Name: "log", Aliases: []string{"l"}, Metavar: "FILE", Path: true, DefaultNote: "standard error", Usage: "write the log to FILE",
			field: func(s *Server) any { return &s.Logging.File }},
		{Name: "alsologtostderr", Usage: "with --log: write to standard error as well",
			field: func(s *Server) any { return &s.Logging.AlsoToStderr }},
	}))
}

func joinFlags() []Flag {
	return in(CategoryCluster, []Flag{
		{Name: "server", Aliases: []string{"s"}, EnvAlias: []string{"SKIFF_URL"}, Metavar: "URL", For: ForServer | ForAgent, Usage: "server to join, such as https://192.0.2.10:6443; a server needs it for its first start only",
			check: serverURL, canon: canonicalURL,
			field: func(s *Server) any { return &s.Join.Server }},
		{Name: "cluster-init", Usage: "keep the state in an embedded etcd, which more servers can join; one that was in SQLite moves there; needed for the first start only",
			field: func(s *Server) any { return &s.Datastore.ClusterInit }},
		{Name: "cluster-reset", Usage: "make this server, of whose embedded etcd most other members are lost, the only one, and end; for the command line alone",
			field: func(s *Server) any { return &s.Reset.Enable }},
		{Name: "cluster-reset-restore-path", Metavar: "SNAPSHOT", Usage: "with cluster-reset: take the state of this snapshot, a file or a name",
			field: func(s *Server) any { return &s.Reset.Snapshot }},
		{Name: "token", Aliases: []string{"t"}, Metavar: "TOKEN", For: ForServer | ForAgent, Secret: true, Usage: "secret that lets machines join the cluster; a file keeps it better",
			check: joinToken,
			field: func(s *Server) any { return &s.Join.Token }},
		{Name: "token-file", Metavar: "FILE", Path: true, For: ForServer | ForAgent, Usage: "file that holds the token",
			check: existingFile,
			field: func(s *Server) any { return &s.Join.TokenFile }},
		{Name: "agent-token", Metavar: "TOKEN", Secret: true, DefaultNote: "the token", Usage: "secret that lets machines join as agents and no more",
			check: joinToken,
			field: func(s *Server) any { return &s.Join.AgentToken }},
		{Name: "agent-token-file", Metavar: "FILE", Path: true, Usage: "file that holds the agent token",
			check: existingFile,
			field: func(s *Server) any { return &s.Join.AgentTokenFile }},
		{Name: "lb-server-port", Metavar: "PORT", Default: "6444", For: ForServer | ForAgent, Usage: "port on the loopback interface at which programs of an agent's machine find the API, whichever server runs",
			check: between(1, 65535),
			field: func(s *Server) any { return &s.LoadBalancer.Port }},
		{Name: "disable-apiserver-lb", For: ForServer | ForAgent, Usage: "offer no such port; kubeconfigs of the node then name the server",
			field: func(s *Server) any { return &s.LoadBalancer.Disable }},
	})
}

func listenerFlags() []Flag {
	return in(CategoryListener, []Flag{
		{Name: "bind-address", Metavar: "ADDRESS", Default: "0.0.0.0", Usage: "address that the API is served on (:: when the cluster has IPv6)",
			field: func(s *Server) any { return &s.Listener.BindAddress }},
		{Name: "https-listen-port", Metavar: "PORT", Default: "6443", Usage: "port that the API is served on",
			check: between(1, 65535),
			field: func(s *Server) any { return &s.Listener.Port }},
		{Name: "advertise-address", Metavar: "ADDRESS", DefaultNote: "node-external-ip, else node-ip", Usage: "address under which pods and nodes reach the API",
			check: unicast,
			field: func(s *Server) any { return &s.Listener.AdvertiseAddress }},
		{Name: "advertise-port", Metavar: "PORT", DefaultNote: "https-listen-port", Usage: "port under which pods and nodes reach the API",
			check: between(1, 65535),
			field: func(s *Server) any { return &s.Listener.AdvertisePort }},
		{Name: "tls-san", Metavar: "NAME", Usage: "more host names and addresses for the API's certificate",
			check: certificateName,
			field: func(s *Server) any { return &s.Listener.TLSSANs }},
	})
}

func dataFlags() []Flag {
	return in(CategoryData, []Flag{
		{Name: "data-dir", Aliases: []string{"d"}, For: ForServer | ForAgent, Metavar: "DIR", Path: true, Default: layout.DefaultDataDir, Usage: "directory for everything that is kept",
			check: notRoot,
			field: func(s *Server) any { return &s.Layout.Data }},
		{Name: "datastore-endpoint", Metavar: "URL", Secret: true, Discreet: true, DefaultNote: "the embedded SQLite", Usage: "keep the cluster's state in this etcd (https://HOST:2379,...), PostgreSQL (postgres://USER:PASSWORD@HOST:5432/DATABASE), or MySQL or MariaDB (mysql://USER:PASSWORD@tcp(HOST:3306)/DATABASE)",
			check: datastoreEndpoint,
			field: func(s *Server) any { return &s.Datastore.Endpoint }},
		{Name: "datastore-cafile", Metavar: "FILE", Path: true, Usage: "certificate authorities of that datastore",
			check: existingFile,
			field: func(s *Server) any { return &s.Datastore.CAFile }},
		{Name: "datastore-certfile", Metavar: "FILE", Path: true, Usage: "certificate to show to that datastore",
			check: existingFile,
			field: func(s *Server) any { return &s.Datastore.CertFile }},
		{Name: "datastore-keyfile", Metavar: "FILE", Path: true, Usage: "key of that certificate",
			check: existingFile,
			field: func(s *Server) any { return &s.Datastore.KeyFile }},
		{Name: "datastore-max-open-connections", Metavar: "NUMBER", Default: "32", Usage: "most connections that a server has to that datastore, when it is a SQL database",
			check: between(2, 10000),
			field: func(s *Server) any { return &s.Datastore.MaxOpen }},
		{Name: "datastore-slow-query", Metavar: "DURATION", Default: "1s", Usage: "log SQL statements that take longer than this",
			check: positiveDuration,
			field: func(s *Server) any { return &s.Datastore.SlowQuery }},
		{Name: "datastore-compact-interval", Metavar: "DURATION", Default: "0s", Usage: "time between compactions of the datastore; 0s leaves them to the API server",
			check: notNegativeDuration,
			field: func(s *Server) any { return &s.Datastore.CompactInterval }},
		{Name: "secrets-encryption", Default: "true", Usage: "encrypt Secrets in the datastore of a new cluster; for one that is there: skiff secrets-encrypt",
			field: func(s *Server) any { return &s.Encryption.Enabled }},
		{Name: "secrets-encryption-provider", Default: EncryptionProviders()[0], Values: EncryptionProviders(), Usage: "how Secrets are encrypted with keys that are made from now on",
			field: func(s *Server) any { return &s.Encryption.Provider }},
	})
}

func networkFlags() []Flag {
	return in(CategoryNetwork, []Flag{
		{Name: "cluster-cidr", Metavar: "CIDR", Default: "10.42.0.0/16", Usage: "addresses of pods, one CIDR per address family (IPv6: fd00:42::/56)",
			field: func(s *Server) any { return &s.Network.ClusterCIDRs }},
		{Name: "service-cidr", Metavar: "CIDR", Default: "10.43.0.0/16", Usage: "addresses of Services, one CIDR per address family (IPv6: fd00:43::/112)",
			field: func(s *Server) any { return &s.Network.ServiceCIDRs }},
		{Name: "service-node-port-range", Metavar: "FROM-TO", Default: "30000-32767", Usage: "ports for Services of type NodePort",
			check: portRange,
			field: func(s *Server) any { return &s.Network.NodePortRange }},
		{Name: "cluster-dns", Metavar: "ADDRESS", DefaultNote: "10th address of service-cidr", Usage: "address of the DNS Service, one per address family",
			field: func(s *Server) any { return &s.Network.ClusterDNS }},
		{Name: "cluster-domain", Metavar: "DOMAIN", Default: "cluster.local", Usage: "DNS domain of the cluster",
			check: dnsName,
			field: func(s *Server) any { return &s.Network.ClusterDomain }},
		{Name: "link-local-dns", Metavar: "ADDRESS", Default: "169.254.20.10", Usage: "address on every node where its pods ask for names (IPv6: fd00:42:ffff::53)",
			check: specified,
			field: func(s *Server) any { return &s.Network.LinkLocalDNS }},
		{Name: "flannel-backend", Default: "vxlan", Values: FlannelBackends(), Usage: "how pods of different nodes reach each other; none leaves the pod network to you",
			field: func(s *Server) any { return &s.Network.FlannelBackend }},
		{Name: "flannel-iface", For: ForServer | ForAgent, Metavar: "INTERFACE", DefaultNote: "the interface that has the node's address", Usage: "network interface that flannel uses",
			check: interfaceName,
			field: func(s *Server) any { return &s.Network.FlannelIface }},
		{Name: "flannel-conf", For: ForServer | ForAgent, Metavar: "FILE", Path: true, Usage: "flannel's net-conf.json, instead of the generated one",
			check: existingFile,
			field: func(s *Server) any { return &s.Network.FlannelConf }},
		{Name: "flannel-cni-conf", For: ForServer | ForAgent, Metavar: "FILE", Path: true, Usage: "CNI network list, instead of the generated one",
			check: existingFile,
			field: func(s *Server) any { return &s.Network.FlannelCNIConf }},
		{Name: "flannel-ipv6-masq", Usage: "masquerade IPv6 traffic of pods that leaves the cluster",
			field: func(s *Server) any { return &s.Network.FlannelIPv6Masq }},
		{Name: "flannel-external-ip", Usage: "let flannel reach nodes by their external addresses",
			field: func(s *Server) any { return &s.Network.FlannelExternal }},
		{Name: "egress-selector-mode", Default: "agent", Values: EgressSelectorModes(), Usage: "what servers reach through connections that agents open: agent: kubelets; pod: pods as well; cluster: Services as well; disabled: nothing, servers connect to all nodes",
			field: func(s *Server) any { return &s.Network.EgressSelector }},
	})
}

func kubeconfigFlags() []Flag {
	return in(CategoryKubeconfig, []Flag{
		{Name: "write-kubeconfig", Aliases: []string{"o"}, EnvAlias: []string{"SKIFF_KUBECONFIG_OUTPUT"}, Metavar: "FILE", Path: true,
			DefaultNote: layout.Default().Kubeconfig(), Usage: "where the administrator's kubeconfig is written",
			field: func(s *Server) any { return &s.Kubeconfig.Output }},
		{Name: "write-kubeconfig-mode", EnvAlias: []string{"SKIFF_KUBECONFIG_MODE"}, Metavar: "MODE", Default: "0600", Usage: "its file mode, in octal",
			field: func(s *Server) any { return &s.Kubeconfig.Mode }},
		{Name: "write-kubeconfig-group", EnvAlias: []string{"SKIFF_KUBECONFIG_GROUP"}, Metavar: "GROUP", Usage: "its group; add --write-kubeconfig-mode=0640 to let the group read it",
			check: existingGroup,
			field: func(s *Server) any { return &s.Kubeconfig.Group }},
		{Name: "write-kubeconfig-name", Metavar: "NAME", Default: "default", Usage: "name of its context, cluster and user",
			field: func(s *Server) any { return &s.Kubeconfig.Name }},
	})
}
