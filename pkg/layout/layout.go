// Package layout is the one place that knows where Skiff keeps its files. It
// imports nothing of ours; every package may import it, and no other package
// joins path names below the data, run or configuration directory.
package layout

import "path/filepath"

// Default directories, the ones that the documentation speaks of.
const (
	DefaultDataDir   = "/var/lib/skiff"
	DefaultRunDir    = "/run/skiff"
	DefaultConfigDir = "/etc/skiff"
	// KubeletRoot is where CSI drivers expect the kubelet's files, so it does
	// not follow the data directory.
	KubeletRoot = "/var/lib/kubelet"
)

// Layout derives every path from three directories. It is a value: copying it
// is cheap, and it never changes.
type Layout struct {
	Data   string // persistent state, DefaultDataDir
	Run    string // sockets and locks, gone after a boot, DefaultRunDir
	Config string // what the administrator writes, DefaultConfigDir
}

// Default is the layout without any --data-dir.
func Default() Layout {
	return Layout{Data: DefaultDataDir, Run: DefaultRunDir, Config: DefaultConfigDir}
}

func (l Layout) data(elem ...string) string {
	return filepath.Join(append([]string{l.Data}, elem...)...)
}

// ConfigFile is the main configuration file.
func (l Layout) ConfigFile() string { return filepath.Join(l.Config, "config.yaml") }

// Kubeconfig is the administrator's kubeconfig.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Config, "kubeconfig.yaml") }

// Registries is the private-registry configuration.
func (l Layout) Registries() string { return filepath.Join(l.Config, "registries.yaml") }

// NodeID is the file of what --with-node-id appends to the node's name.
func (l Layout) NodeID() string { return filepath.Join(l.Config, "node", "id") }

// NodePassword is the secret by which a machine keeps its node's name. It is
// not below the data directory, so that it outlives it.
func (l Layout) NodePassword() string { return filepath.Join(l.Config, "node", "password") }

// Lock is held by the process that owns the data directory.
func (l Layout) Lock() string { return l.data(".lock") }

// Payload is where helper programs are unpacked, one directory per content hash.
func (l Layout) Payload() string { return l.data("data") }

// Server is the control plane's directory, readable by root only.
func (l Layout) Server() string { return l.data("server") }

// TLS holds CAs, keys and leaves of the control plane.
func (l Layout) TLS() string { return l.data("server", "tls") }

// TLSFile is a file in TLS.
func (l Layout) TLSFile(name string) string { return l.data("server", "tls", name) }

// ServerToken is the token with which servers and agents join.
func (l Layout) ServerToken() string { return l.data("server", "token") }

// NodeToken is a link to ServerToken, under k3s' name.
func (l Layout) NodeToken() string { return l.data("server", "node-token") }

// AgentToken is the token with which agents alone join; a link to ServerToken
// while there is none.
func (l Layout) AgentToken() string { return l.data("server", "agent-token") }

// BootstrapRecord says what this server's keys and those that the datastore
// keeps had in common.
func (l Layout) BootstrapRecord() string { return l.data("server", "bootstrap.json") }

// EncryptionState is the keys with which Secrets are encrypted, and how far a
// change of them is.
func (l Layout) EncryptionState() string { return l.data("server", "cred", "encryption-state.json") }

// EncryptionConfig is the same for the API server, in upstream's format and
// under k3s' name.
func (l Layout) EncryptionConfig() string {
	return l.data("server", "cred", "encryption-config.json")
}

// Database is the directory of the embedded datastores.
func (l Layout) Database() string { return l.data("server", "db") }

// SQLite is the SQLite database file.
func (l Layout) SQLite() string { return l.data("server", "db", "state.db") }

// Etcd is the directory of the embedded etcd.
func (l Layout) Etcd() string { return l.data("server", "db", "etcd") }

// Snapshots is where copies of the cluster's state are kept.
func (l Layout) Snapshots() string { return l.data("server", "db", "snapshots") }

// RestoreMark is there while the files of a server are being replaced by those
// of a snapshot.
func (l Layout) RestoreMark() string { return l.data("server", "restore-unfinished") }

// Restoring is a data directory in which a restore prepares a server's files.
func (l Layout) Restoring() Layout {
	return Layout{Data: l.data("server", ".restoring"), Run: l.Run, Config: l.Config}
}

// BeforeRestore is where a restore leaves a server's files that it has
// replaced.
func (l Layout) BeforeRestore(stamp string) string {
	return l.data("server", BeforeRestorePrefix+stamp)
}

// BeforeRestorePrefix begins the names of those directories.
const BeforeRestorePrefix = "before-restore-"

// KineSocket is where the API server reaches the embedded datastore.
func (l Layout) KineSocket() string { return filepath.Join(l.Run, "kine.sock") }

// Agent is the node part's directory.
func (l Layout) Agent() string { return l.data("agent") }

// AgentFile is a file in Agent: client certificates, kubeconfigs.
func (l Layout) AgentFile(name string) string { return l.data("agent", name) }

// ClusterConfig is what an agent's servers told it, so that it can start
// without them.
func (l Layout) ClusterConfig() string { return l.data("agent", "cluster.json") }

// Images is where image archives are picked up.
func (l Layout) Images() string { return l.data("agent", "images") }

// PodManifests is where static pod manifests are picked up.
func (l Layout) PodManifests() string { return l.data("agent", "pod-manifests") }

// Containerd is containerd's persistent root.
func (l Layout) Containerd() string { return l.data("agent", "containerd") }

// ContainerdState is containerd's volatile state directory.
func (l Layout) ContainerdState() string { return filepath.Join(l.Run, "containerd") }

// ContainerdSocket serves containerd's own API and the CRI.
func (l Layout) ContainerdSocket() string {
	return filepath.Join(l.Run, "containerd", "containerd.sock")
}

// Helpers is a directory of links to the helper programs whose path stays the
// same when they are replaced. Shims remember paths for as long as their pods
// live, so they get these. It has to be in the PATH of the process.
func (l Layout) Helpers(elem ...string) string {
	return filepath.Join(append([]string{l.Data, "agent", "bin"}, elem...)...)
}

// ContainerdDropIns is where the administrator puts additions to containerd's
// configuration.
func (l Layout) ContainerdDropIns(elem ...string) string {
	return filepath.Join(append([]string{l.Config, "containerd.d"}, elem...)...)
}

// ShimSockets is where the shims of containers listen. It is short: a unix
// socket's path may have only 107 characters.
func (l Layout) ShimSockets() string { return filepath.Join(l.Run, "containerd", "s") }

// CNIState is where the CNI plugins keep which pod has which address. It is
// gone after a boot, like the pods.
func (l Layout) CNIState() string { return filepath.Join(l.Run, "cni") }

// AgentEtc holds the generated configuration of node components.
func (l Layout) AgentEtc(elem ...string) string {
	return filepath.Join(append([]string{l.Data, "agent", "etc"}, elem...)...)
}

// RegistryHosts is where containerd looks up how to reach a registry, at each
// pull.
func (l Layout) RegistryHosts() string { return l.AgentEtc("containerd", "certs.d") }

// CNIConf is the directory of CNI network lists.
func (l Layout) CNIConf() string { return l.AgentEtc("cni", "net.d") }

// StatusSocket answers `skiff status`.
func (l Layout) StatusSocket() string { return filepath.Join(l.Run, "status.sock") }

// VolumePlugins is where FlexVolume plugins are looked for.
func (l Layout) VolumePlugins() string { return l.data("agent", "volumeplugins") }
