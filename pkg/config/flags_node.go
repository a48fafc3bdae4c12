package config

func componentFlags() []Flag {
	arg := func(name, component string, field func(*Server) any) Flag {
		return Flag{Name: name, Metavar: "NAME=VALUE", Whole: true, Usage: "one more argument for " + component,
			check: componentArg(name), canon: canonicalArg, field: field}
	}
	return in(CategoryComponents, []Flag{
		arg("kube-apiserver-arg", "kube-apiserver", func(s *Server) any { return &s.APIServer.Extra }),
		arg("kube-controller-manager-arg", "kube-controller-manager", func(s *Server) any { return &s.ControllerManager.Extra }),
		arg("kube-scheduler-arg", "kube-scheduler", func(s *Server) any { return &s.Scheduler.Extra }),
		{Name: "etcd-arg", Metavar: "NAME=VALUE", Whole: true, Usage: "one more argument for the embedded etcd",
			check: componentArg("etcd-arg"), canon: canonicalArg, field: func(s *Server) any { return &s.Datastore.Etcd.Extra }},
		{Name: "etcd-expose-metrics", Usage: "serve the embedded etcd's metrics on port 2381 of the node's address, to everybody",
			field: func(s *Server) any { return &s.Datastore.EtcdMetrics }},
		everyNode(arg("kubelet-arg", "the kubelet", func(s *Server) any { return &s.Node.Kubelet.Extra })),
		everyNode(arg("kube-proxy-arg", "kube-proxy", func(s *Server) any { return &s.Node.Proxy.Extra })),
		{Name: "disable", Metavar: "PART", Usage: "leave out a packaged part: coredns (k3s' names of parts that Skiff has not are accepted)",
			check: packagedPart,
			field: func(s *Server) any { return &s.Disable }},
		{Name: "disable-scheduler", Usage: "run no scheduler",
			field: func(s *Server) any { return &s.DisableScheduler }},
		{Name: "disable-kube-proxy", Usage: "run no kube-proxy",
			field: func(s *Server) any { return &s.DisableKubeProxy }},
		{Name: "disable-cloud-controller", Usage: "leave the external addresses and provider IDs of nodes to another cloud controller manager (whose nodes need kubelet-arg cloud-provider=external)",
			field: func(s *Server) any { return &s.DisableCloudController }},
		{Name: "disable-agent", Usage: "run the control plane only: no kubelet, no pods on this machine",
			field: func(s *Server) any { return &s.DisableAgent }},
		{Name: "enable-pprof", For: ForServer | ForAgent, Usage: "serve Go profiles at /debug/pprof on the API's port, to administrators",
			field: func(s *Server) any { return &s.EnablePprof }},
		{Name: "profile", For: ForServer | ForAgent, Default: "auto", Values: Profiles(),
			Usage: "how much memory may be spent to save processor time; auto decides by the host's memory",
			field: func(s *Server) any { return &s.Profile }},
	})
}

func everyNode(f Flag) Flag {
	f.For = ForServer | ForAgent
	return f
}

func nodeFlags() []Flag {
	return in(CategoryNode, everywhere([]Flag{
		{Name: "node-name", Metavar: "NAME", DefaultNote: "host name", Usage: "name of this node",
			check: nodeName, canon: lower,
			field: func(s *Server) any { return &s.Node.Name }},
		{Name: "with-node-id", Usage: "append 8 digits to the name that this machine keeps from then on, so that many machines may have one host name",
			field: func(s *Server) any { return &s.Node.WithNodeID }},
		{Name: "node-ip", Aliases: []string{"i"}, Metavar: "ADDRESS", DefaultNote: "address of the default route", Usage: "address of this node, one per address family",
			check: unicast,
			field: func(s *Server) any { return &s.Node.IPs }},
		{Name: "node-external-ip", Metavar: "ADDRESS", Usage: "address under which the node is known outside",
			check: unicast,
			field: func(s *Server) any { return &s.Node.ExternalIPs }},
		{Name: "node-internal-dns", Metavar: "NAME", Usage: "DNS name of the node inside its network",
			check: dnsName,
			field: func(s *Server) any { return &s.Node.InternalDNS }},
		{Name: "node-external-dns", Metavar: "NAME", Usage: "DNS name of the node outside",
			check: dnsName,
			field: func(s *Server) any { return &s.Node.ExternalDNS }},
		{Name: "node-label", Metavar: "KEY=VALUE", Usage: "label that the node registers with",
			check: nodeLabel,
			field: func(s *Server) any { return &s.Node.Labels }},
		{Name: "node-taint", Metavar: "KEY=VALUE:EFFECT", Usage: "taint that the node registers with",
			check: nodeTaint,
			field: func(s *Server) any { return &s.Node.Taints }},
		{Name: "resolv-conf", Metavar: "FILE", Path: true, DefaultNote: "found, past systemd-resolved's stub", Usage: "resolv.conf with the name servers for names outside the cluster",
			check: existingFile,
			field: func(s *Server) any { return &s.Node.ResolvConf }},
		{Name: "protect-kernel-defaults", Usage: "refuse to start when kernel settings differ from what the kubelet wants, instead of changing them",
			field: func(s *Server) any { return &s.Node.ProtectKernelDefaults }},
		{Name: "selinux", Usage: "use SELinux in containers",
			field: func(s *Server) any { return &s.Node.SELinux }},
		{Name: "cgroup-root", Metavar: "CGROUP", DefaultNote: "the root", Usage: "cgroup below which the pods of this node live",
			check: cgroupPath,
			field: func(s *Server) any { return &s.Node.CgroupRoot }},
	}))
}

func runtimeFlags() []Flag {
	const credentials = "/var/lib/skiff/credentialprovider"
	return in(CategoryRuntime, everywhere([]Flag{
		{Name: "container-runtime-endpoint", Metavar: "SOCKET", DefaultNote: "the embedded containerd", Usage: "socket of another CRI runtime",
			check: unixSocket, canon: canonicalSocket,
			field: func(s *Server) any { return &s.Node.ContainerRuntimeEndpoint }},
		{Name: "image-service-endpoint", Metavar: "SOCKET", DefaultNote: "container-runtime-endpoint", Usage: "socket of another CRI image service",
			check: unixSocket, canon: canonicalSocket,
			field: func(s *Server) any { return &s.Node.ImageServiceEndpoint }},
		{Name: "snapshotter", Default: "overlayfs", Values: Snapshotters(), Usage: "how containerd keeps layers",
			field: func(s *Server) any { return &s.Node.Snapshotter }},
		{Name: "default-runtime", Metavar: "NAME", Default: "runc", Usage: "containerd runtime for pods without a RuntimeClass",
			check: runtimeName,
			field: func(s *Server) any { return &s.Node.DefaultRuntime }},
		{Name: "pause-image", Metavar: "IMAGE", DefaultNote: "the bundled one", Usage: "image of the sandbox container",
			check: imageReference,
			field: func(s *Server) any { return &s.Node.PauseImage }},
		{Name: "nonroot-devices", Usage: "give devices to pods with the pod's user and group",
			field: func(s *Server) any { return &s.Node.NonrootDevices }},
		{Name: "private-registry", Metavar: "FILE", Path: true, Default: "/etc/skiff/registries.yaml", Usage: "mirrors, credentials and certificates of image registries",
			check: existingFile,
			field: func(s *Server) any { return &s.Node.PrivateRegistry }},
		{Name: "disable-default-registry-endpoint", Usage: "ask only the mirrors of a registry that has some, and never the registry itself",
			field: func(s *Server) any { return &s.Node.DisableDefaultRegistry }},
		{Name: "image-credential-provider-bin-dir", Metavar: "DIR", Path: true, Default: credentials + "/bin", Usage: "directory of image credential providers",
			check: existingFile,
			field: func(s *Server) any { return &s.Node.ImageCredentialProviderBinDir }},
		{Name: "image-credential-provider-config", Metavar: "FILE", Path: true, Default: credentials + "/config.yaml", Usage: "configuration of image credential providers",
			check: existingFile,
			field: func(s *Server) any { return &s.Node.ImageCredentialProviderConfig }},
	}))
}
