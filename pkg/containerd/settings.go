package containerd

import (
	"bytes"
	"fmt"

	"github.com/containerd/containerd/v2/version"
	"github.com/pelletier/go-toml/v2"
)

// settings is the part of containerd's configuration file that Skiff decides.
// containerd's own types for it are internal to it.
type settings struct {
	Version         int               `toml:"version"`
	Root            string            `toml:"root"`
	State           string            `toml:"state"`
	Imports         []string          `toml:"imports"`
	DisabledPlugins []string          `toml:"disabled_plugins"`
	RequiredPlugins []string          `toml:"required_plugins"`
	Timeouts        map[string]string `toml:"timeouts"`
	Plugins         pluginSettings    `toml:"plugins"`
}

type pluginSettings struct {
	GRPC     socketSettings   `toml:"io.containerd.server.v1.grpc"`
	TTRPC    socketSettings   `toml:"io.containerd.server.v1.ttrpc"`
	CRI      serverSettings   `toml:"io.containerd.grpc.v1.cri"`
	Images   imageSettings    `toml:"io.containerd.cri.v1.images"`
	Runtime  runtimeSettings  `toml:"io.containerd.cri.v1.runtime"`
	Shims    shimSettings     `toml:"io.containerd.shim.v1.manager"`
	Transfer transferSettings `toml:"io.containerd.transfer.v1.local"`
	NRI      nriSettings      `toml:"io.containerd.nri.v1.nri"`
	Garbage  garbageSettings  `toml:"io.containerd.gc.v1.scheduler"`
}

type socketSettings struct {
	Address string `toml:"address"`
}

type serverSettings struct {
	DisableTCPService   bool   `toml:"disable_tcp_service"`
	StreamServerAddress string `toml:"stream_server_address"`
	StreamServerPort    string `toml:"stream_server_port"`
	EnableTLSStreaming  bool   `toml:"enable_tls_streaming"`
}

type imageSettings struct {
	Snapshotter         string            `toml:"snapshotter"`
	PinnedImages        map[string]string `toml:"pinned_images"`
	StatsCollectPeriod  int               `toml:"stats_collect_period"`
	ImagePullWithSyncFs bool              `toml:"image_pull_with_sync_fs"`
	UseLocalImagePull   bool              `toml:"use_local_image_pull"`
	Registry            registrySettings  `toml:"registry"`
}

type registrySettings struct {
	ConfigPath string `toml:"config_path"`
}

type runtimeSettings struct {
	EnableSELinux                      bool             `toml:"enable_selinux"`
	RestrictOOMScoreAdj                bool             `toml:"restrict_oom_score_adj"`
	DeviceOwnershipFromSecurityContext bool             `toml:"device_ownership_from_security_context"`
	EnableUnprivilegedPorts            bool             `toml:"enable_unprivileged_ports"`
	EnableUnprivilegedICMP             bool             `toml:"enable_unprivileged_icmp"`
	StatsCollectPeriod                 string           `toml:"stats_collect_period"`
	StatsRetentionPeriod               string           `toml:"stats_retention_period"`
	CNI                                cniSettings      `toml:"cni"`
	Containerd                         handlersSettings `toml:"containerd"`
}

type cniSettings struct {
	BinDirs             []string `toml:"bin_dirs"`
	ConfDir             string   `toml:"conf_dir"`
	UseInternalLoopback bool     `toml:"use_internal_loopback"`
}

type handlersSettings struct {
	DefaultRuntimeName string                     `toml:"default_runtime_name"`
	Runtimes           map[string]handlerSettings `toml:"runtimes"`
}

type handlerSettings struct {
	Type    string       `toml:"runtime_type"`
	Options runcSettings `toml:"options"`
}

type runcSettings struct {
	BinaryName    string `toml:"BinaryName"`
	SystemdCgroup bool   `toml:"SystemdCgroup"`
	ShimCgroup    string `toml:"ShimCgroup"`
}

type shimSettings struct {
	SocketDir string `toml:"socket_dir,omitempty"`
}

type transferSettings struct {
	ConfigPath   string           `toml:"config_path"`
	UnpackConfig []unpackSettings `toml:"unpack_config"`
}

type unpackSettings struct {
	Platform    string `toml:"platform"`
	Snapshotter string `toml:"snapshotter"`
	Differ      string `toml:"differ"`
}

type garbageSettings struct {
	PauseThreshold float64 `toml:"pause_threshold"`
}

type nriSettings struct {
	Disable bool `toml:"disable"`
}

const header = `# Written by Skiff at every start: do not edit.
# Put your own settings into %s: any file there that ends in
# .toml is read after this one. Tables are merged and later values win, lists
# are appended to. Restart Skiff afterwards.
`

func (s settings) render(dropIns string) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, header, dropIns)
	if err := toml.NewEncoder(&out).Encode(s); err != nil {
		return nil, fmt.Errorf("encode containerd's configuration: %w", err)
	}
	return out.Bytes(), nil
}

// garbagePauses is the share of time that containerd may spend on collecting
// unused layers. It counts 5 ms or more for one collection, so it looks every
// 5 s whether there is one to do; with its own 0.02 four times a second.
const garbagePauses = 0.001

func newSettings(cfg Config, platform string) settings {
	l := cfg.Layout
	registries := l.RegistryHosts()
	s := settings{
		Version: version.ConfigVersion,
		Root:    l.Containerd(),
		State:   l.ContainerdState(),
		Imports: []string{l.ContainerdDropIns("*.toml")},
		// gRPC metrics register themselves with Prometheus' default registry,
		// where etcd's metrics of the same names are.
		DisabledPlugins: []string{
			"io.containerd.metrics.v1.grpc-prometheus",
			"io.containerd.metrics.v1.grpc-otel",
		},
		RequiredPlugins: []string{
			"io.containerd.snapshotter.v1." + cfg.Snapshotter,
			"io.containerd.metadata.v1.bolt",
			"io.containerd.cri.v1.images",
			"io.containerd.cri.v1.runtime",
			"io.containerd.grpc.v1.cri",
			"io.containerd.internal.v1." + handoverID,
		},
		// Without a bound, a database that another containerd holds would be
		// waited for without a word.
		Timeouts: map[string]string{"io.containerd.timeout.bolt.open": "5s"},
	}
	s.Plugins = pluginSettings{
		GRPC:  socketSettings{Address: l.ContainerdSocket()},
		TTRPC: socketSettings{Address: ttrpcSocket(l.ContainerdSocket())},
		CRI: serverSettings{
			DisableTCPService:   true,
			StreamServerAddress: "127.0.0.1",
			StreamServerPort:    "0",
		},
		Images: imageSettings{
			Snapshotter:        cfg.Snapshotter,
			PinnedImages:       map[string]string{"sandbox": cfg.PauseImage},
			StatsCollectPeriod: statsSeconds,
			// A power cut after a pull must not leave an image with empty
			// files in it. Only the local pull can flush a layer.
			ImagePullWithSyncFs: true,
			UseLocalImagePull:   true,
			Registry:            registrySettings{ConfigPath: registries},
		},
		Runtime: newRuntimeSettings(cfg),
		Transfer: transferSettings{
			ConfigPath: registries,
			UnpackConfig: []unpackSettings{{
				Platform: platform, Snapshotter: cfg.Snapshotter, Differ: "walking",
			}},
		},
		NRI:     nriSettings{Disable: true},
		Garbage: garbageSettings{PauseThreshold: garbagePauses},
	}
	if dir := l.ShimSockets(); len(dir) <= maxSocketDir {
		s.Plugins.Shims.SocketDir = dir
	}
	return s
}

// ttrpcSocket is where shims send their events.
func ttrpcSocket(socket string) string { return socket + ".ttrpc" }

const (
	// statsSeconds is how often the sizes of snapshots and the CPU use of
	// containers are sampled. The kubelet takes CPU and memory from cAdvisor
	// and disk pressure from the file system itself, so upstream's 10 s and 1 s
	// would be wake-ups for nobody.
	statsSeconds = 60
	// maxSocketDir is containerd's bound on the length of the shims' socket
	// directory; it comes from the length of a unix socket's path.
	maxSocketDir = 42
)

func newRuntimeSettings(cfg Config) runtimeSettings {
	return runtimeSettings{
		EnableSELinux:                      cfg.SELinux,
		RestrictOOMScoreAdj:                cfg.RestrictOOMScoreAdj,
		DeviceOwnershipFromSecurityContext: cfg.NonrootDevices,
		EnableUnprivilegedPorts:            true,
		EnableUnprivilegedICMP:             true,
		StatsCollectPeriod:                 fmt.Sprintf("%ds", statsSeconds),
		StatsRetentionPeriod:               fmt.Sprintf("%ds", 4*statsSeconds),
		CNI: cniSettings{
			BinDirs: cfg.CNIBinDirs,
			ConfDir: cfg.Layout.CNIConf(),
			// Setting lo up in-process spares a child process for each pod.
			UseInternalLoopback: true,
		},
		Containerd: handlersSettings{
			DefaultRuntimeName: cfg.DefaultRuntime,
			Runtimes: map[string]handlerSettings{"runc": {
				Type: "io.containerd.runc.v2",
				// No runtime_path: with one, containerd finds no shim for the
				// containers of running pods when it starts again, and ends them.
				Options: runcSettings{
					BinaryName:    cfg.RuncPath,
					SystemdCgroup: cfg.SystemdCgroup,
					ShimCgroup:    cfg.ShimCgroup,
				},
			}},
		},
	}
}
