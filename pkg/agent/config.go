package agent

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/dns"
	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/hostcheck"
	"github.com/skiff-k8s/skiff/pkg/imageimport"
	"github.com/skiff-k8s/skiff/pkg/kube/cloudcontroller"
	"github.com/skiff-k8s/skiff/pkg/kube/flags"
	"github.com/skiff-k8s/skiff/pkg/kube/kubelet"
	"github.com/skiff-k8s/skiff/pkg/kube/proxy"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/network"
	"github.com/skiff-k8s/skiff/pkg/registries"
)

// Each function below says what one component is told.

func (n Node) containerd() containerd.Config {
	pause := n.Config.PauseImage
	if pause == "" {
		pause = embedded.PauseImageName
	}
	return containerd.Config{
		Layout:              n.Layout,
		RuncPath:            n.Helpers.Runc(),
		ShimPath:            n.Helpers.Shim(),
		CNIBinDirs:          []string{n.Helpers.CNIBin(), "/opt/cni/bin"},
		PauseImage:          pause,
		Snapshotter:         n.Config.Snapshotter,
		DefaultRuntime:      n.Config.DefaultRuntime,
		SystemdCgroup:       n.Host.CgroupDriver == hostcheck.DriverSystemd,
		ShimCgroup:          n.shimCgroup(),
		RestrictOOMScoreAdj: n.Host.RestrictOOMScoreAdj,
		NonrootDevices:      n.Config.NonrootDevices,
		SELinux:             n.Config.SELinux,
		Log:                 n.Logs.Foreign("containerd"),
	}
}

func (n Node) registries() registries.Config {
	return registries.Config{
		File:                   n.Config.PrivateRegistry,
		HostsDir:               n.Layout.RegistryHosts(),
		DisableDefaultEndpoint: n.Config.DisableDefaultRegistry,
	}
}

// shimCgroup is where shims go besides the cgroup of Skiff itself. With
// cgroups of version 2 a cgroup that has children may hold no processes.
func (n Node) shimCgroup() string {
	if n.Host.CgroupVersion == 2 {
		return ""
	}
	return n.Config.CgroupRoot
}

func (n Node) images() imageimport.Config {
	pause := n.Helpers.PauseImage()
	if n.Config.PauseImage != "" {
		pause = ""
	}
	return imageimport.Config{
		Namespace:    containerd.Namespace,
		Directory:    n.Layout.Images(),
		PauseArchive: pause,
		Record:       n.Layout.AgentFile("images.json"),
		Snapshotter:  n.Config.Snapshotter,
	}
}

func (n Node) kubelet() (kubelet.Config, error) {
	taints, err := parseTaints(n.Config.Taints)
	if err != nil {
		return kubelet.Config{}, err
	}
	endpoint := n.Config.ContainerRuntimeEndpoint
	if endpoint == "" {
		endpoint = "unix://" + n.Layout.ContainerdSocket()
	}
	providerDir, providerConfig, err := n.credentialProvider()
	if err != nil {
		return kubelet.Config{}, err
	}
	dnsAddrs := n.Network.ClusterDNS
	if !n.DisableDNS {
		dnsAddrs = []netip.Addr{n.Network.LinkLocalDNS}
	}
	return kubelet.Config{
		NodeName:                 n.Config.Name,
		NodeIPs:                  n.Host.Addresses.Node,
		ProviderID:               n.providerID(),
		AddressesFromOutside:     n.addresses().FromOutside(),
		Labels:                   parseLabels(n.Config.Labels),
		Taints:                   taints,
		ClusterDNS:               dnsAddrs,
		ClusterDomain:            n.Network.ClusterDomain,
		ResolvConf:               n.Host.Resolvers.Path,
		RootDir:                  layout.KubeletRoot,
		StaticPodPath:            n.Layout.PodManifests(),
		VolumePluginDir:          n.Layout.VolumePlugins(),
		DropInDir:                n.Layout.AgentEtc("kubelet.conf.d"),
		RuntimeEndpoint:          endpoint,
		ImageEndpoint:            n.Config.ImageServiceEndpoint,
		CgroupRoot:               n.Config.CgroupRoot,
		CgroupDriver:             n.Host.CgroupDriver,
		CgroupV1:                 n.Host.CgroupVersion == 1,
		Alone:                    n.Alone,
		ProtectKernelDefaults:    n.Config.ProtectKernelDefaults,
		IPTables:                 n.Host.ProxyMode == hostcheck.ProxyIPTables,
		Privileged:               !n.Host.RestrictOOMScoreAdj,
		ServingCert:              n.Files.Serving.Cert,
		ServingKey:               n.Files.Serving.Key,
		ClientCA:                 n.Files.ClientCA,
		CredentialProviderBinDir: providerDir,
		CredentialProviderConfig: providerConfig,
		Pprof:                    n.Pprof,
		ExtraArgs:                n.Config.Kubelet.Extra,
	}, nil
}

// credentialProvider is where image credential providers are, or nothing while
// nobody has configured any: the kubelet ends the process when they are missing.
func (n Node) credentialProvider() (dir, file string, err error) {
	dir, file = n.Config.ImageCredentialProviderBinDir, n.Config.ImageCredentialProviderConfig
	_, noFile := os.Stat(file)
	_, noDir := os.Stat(dir)
	switch {
	case noFile == nil && noDir == nil:
		return dir, file, nil
	case noFile != nil && noDir != nil && strings.HasPrefix(file, n.Layout.Data):
		return "", "", nil
	case noFile != nil:
		return "", "", fmt.Errorf("image credential providers: can't read the configuration: %w; correct --image-credential-provider-config or make the file", noFile)
	}
	return "", "", fmt.Errorf("image credential providers: can't read the directory of programs: %w; correct --image-credential-provider-bin-dir or make it", noDir)
}

// Registration is what somebody else than its kubelet has to say of the node:
// labels that it may not give itself, and addresses that it can't know.
func (n Node) Registration(labels map[string]string) kubelet.Registration {
	return kubelet.Registration{NodeName: n.Config.Name, Labels: labels, Annotations: n.addresses().Annotations()}
}

func (n Node) providerID() string {
	if n.DisableCloudController {
		return ""
	}
	return cloudcontroller.ProviderID(n.Config.Name)
}

// addresses are nobody's business where the cloud controller is not ours.
func (n Node) addresses() cloudcontroller.Addresses {
	if n.DisableCloudController {
		return cloudcontroller.Addresses{}
	}
	return cloudcontroller.Addresses{
		Wait:        flags.Last(n.Config.Kubelet.Extra, "cloud-provider") == "external",
		Internal:    n.Host.Addresses.Node,
		External:    n.Config.ExternalIPs,
		InternalDNS: n.Config.InternalDNS,
		ExternalDNS: n.Config.ExternalDNS,
	}
}

func (n Node) network() network.Config {
	return network.Config{
		Layout:         n.Layout,
		NodeName:       n.Config.Name,
		NodeIPs:        n.Host.Addresses.Node,
		ExternalIPs:    n.Config.ExternalIPs,
		UseExternalIPs: n.Network.FlannelExternal,
		ClusterCIDRs:   n.Network.ClusterCIDRs,
		ServiceCIDRs:   n.Network.ServiceCIDRs,
		Backend:        n.Network.FlannelBackend,
		Iface:          n.Network.FlannelIface,
		NetConfFile:    n.Network.FlannelConf,
		CNIConfFile:    n.Network.FlannelCNIConf,
		MasqueradeIPv6: n.Network.FlannelIPv6Masq,
		NFTables:       n.Host.ProxyMode == hostcheck.ProxyNFTables,
	}
}

func (n Node) proxy() proxy.Config {
	return proxy.Config{
		NodeName:       n.Config.Name,
		NodeIPs:        n.Host.Addresses.Node,
		ClusterCIDRs:   n.Network.ClusterCIDRs,
		Mode:           n.Host.ProxyMode,
		LeaveConntrack: !n.Host.ConntrackWritable,
		ConfigFile:     n.Layout.AgentEtc("kube-proxy.yaml"),
		ExtraArgs:      n.Config.Proxy.Extra,
	}
}

func (n Node) dns() dns.Config {
	return dns.Config{
		NodeName:     n.Config.Name,
		Domain:       n.Network.ClusterDomain,
		Listen:       []netip.Addr{n.Network.LinkLocalDNS},
		ClusterCIDRs: n.Network.ClusterCIDRs,
		ServiceAddrs: n.Network.ClusterDNS,
		Upstreams:    n.Host.Resolvers.Nameservers,
	}
}

func parseLabels(labels []string) map[string]string {
	m := make(map[string]string, len(labels))
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		m[key] = value
	}
	return m
}

// parseTaints reads key=value:Effect and key:Effect, as kubectl taint does.
func parseTaints(taints []string) ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, t := range taints {
		spec, effect, ok := strings.Cut(t, ":")
		if !ok {
			return nil, fmt.Errorf("node-taint %q: wants key=value:Effect or key:Effect", t)
		}
		key, value, _ := strings.Cut(spec, "=")
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out, nil
}
