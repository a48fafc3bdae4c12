package kubelet

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"

	"github.com/skiff-k8s/skiff/pkg/kube/flags"
)

// inMemory stands where upstream wants the name of a kubeconfig to tell that
// the kubelet is not alone; the file is never opened.
const inMemory = "in-memory"

// aloneLeaseSeconds is how long the lease lasts by which a node says that it
// lives. It is renewed four times in that time, each a write to the disk. The
// controller manager misses a node after 50 s without, so one renewal may fail.
const aloneLeaseSeconds = 80

// kubeletServer builds upstream's settings: Skiff's, under the user's
// configuration files, under the user's arguments.
func kubeletServer(cfg Config) (*options.KubeletServer, error) {
	kc, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("the kubelet's defaults: %w", err)
	}
	kf := options.NewKubeletFlags()
	setFlags(kf, cfg)
	setConfig(kc, cfg)

	// A first pass finds config=FILE; the second makes arguments win over files.
	if err := parseExtra(options.NewKubeletFlags(), kc.DeepCopy(), cfg.ExtraArgs); err != nil {
		return nil, fmt.Errorf("kubelet-arg: %w", err)
	}
	if kc, err = mergeFiles(kc, flags.Last(cfg.ExtraArgs, "config"), cfg.DropInDir); err != nil {
		return nil, err
	}
	if err := parseExtra(kf, kc, cfg.ExtraArgs); err != nil {
		return nil, fmt.Errorf("kubelet-arg: %w", err)
	}
	if err := options.ValidateKubeletFlags(kf); err != nil {
		return nil, fmt.Errorf("the kubelet's flags: %w", err)
	}
	if err := validation.ValidateKubeletConfiguration(kc, utilfeature.DefaultFeatureGate); err != nil {
		return nil, fmt.Errorf("the kubelet's configuration: %w", err)
	}
	return &options.KubeletServer{KubeletFlags: *kf, KubeletConfiguration: *kc}, nil
}

func setFlags(f *options.KubeletFlags, cfg Config) {
	f.KubeConfig = inMemory
	f.HostnameOverride = cfg.NodeName
	f.NodeIP = joinAddrs(cfg.NodeIPs)
	if cfg.AddressesFromOutside {
		f.CloudProvider = "external"
	}
	f.RootDirectory = cfg.RootDir
	f.NodeLabels = cfg.Labels
	f.ImageCredentialProviderBinDir = cfg.CredentialProviderBinDir
	f.ImageCredentialProviderConfigPath = cfg.CredentialProviderConfig
}

func setConfig(kc *kubeletconfig.KubeletConfiguration, cfg Config) {
	kc.Authentication.Anonymous.Enabled = false
	kc.Authentication.Webhook.Enabled = true
	kc.Authentication.X509.ClientCAFile = cfg.ClientCA
	kc.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	kc.TLSCertFile, kc.TLSPrivateKeyFile = cfg.ServingCert, cfg.ServingKey
	kc.ReadOnlyPort = 0
	kc.HealthzPort = 0 // unauthenticated; the status socket answers instead
	kc.EnableProfilingHandler = cfg.Pprof

	kc.ProviderID = cfg.ProviderID
	kc.ClusterDomain = cfg.ClusterDomain
	kc.ClusterDNS = nil
	for _, a := range cfg.ClusterDNS {
		kc.ClusterDNS = append(kc.ClusterDNS, a.String())
	}
	kc.ResolverConfig = cfg.ResolvConf

	kc.ContainerRuntimeEndpoint = cfg.RuntimeEndpoint
	kc.ImageServiceEndpoint = cfg.ImageEndpoint
	kc.CgroupRoot = cfg.CgroupRoot
	kc.CgroupDriver = cfg.CgroupDriver
	kc.FailCgroupV1 = kc.FailCgroupV1 && !cfg.CgroupV1
	kc.FailSwapOn = false // small machines have swap; pods get none of it unless told
	kc.ProtectKernelDefaults = cfg.ProtectKernelDefaults

	if cfg.Alone {
		kc.NodeLeaseDurationSeconds = aloneLeaseSeconds
	}
	kc.MakeIPTablesUtilChains = cfg.IPTables
	if !cfg.Privileged {
		keepLimits(kc)
	}

	kc.StaticPodPath = cfg.StaticPodPath
	kc.VolumePluginDir = cfg.VolumePluginDir
	kc.RegisterWithTaints = cfg.Taints
	// k3s' thresholds: on small disks upstream's 10 and 15 % are much.
	kc.EvictionHard = map[string]string{
		"memory.available":   "100Mi",
		"nodefs.available":   "5%",
		"nodefs.inodesFree":  "5%",
		"imagefs.available":  "5%",
		"imagefs.inodesFree": "5%",
	}
	kc.EvictionMinimumReclaim = map[string]string{"nodefs.available": "10%", "imagefs.available": "10%"}
}

// keepLimits asks for no more than the process has: without CAP_SYS_RESOURCE
// upstream's wishes fail, and it complains every few minutes.
func keepLimits(kc *kubeletconfig.KubeletConfiguration) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		kc.MaxOpenFiles = int64(min(limit.Max, uint64(kc.MaxOpenFiles)))
	}
	if data, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		if adj, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 32); err == nil {
			kc.OOMScoreAdj = int32(adj)
		}
	}
}

func parseExtra(f *options.KubeletFlags, kc *kubeletconfig.KubeletConfiguration, args []string) error {
	fs := flags.NewSet("kubelet", nil)
	f.AddFlags(fs)
	options.AddKubeletConfigFlags(fs, kc)
	return flags.Parse(fs, args)
}

func joinAddrs(addrs []netip.Addr) string {
	parts := make([]string, len(addrs))
	for i, a := range addrs {
		parts[i] = a.String()
	}
	return strings.Join(parts, ",")
}
