package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
)

// stockNames are the programs that scripts/bench builds.
func stockNames() []string {
	return []string{"etcd", "containerd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}
}

const (
	podRange     = "10.42.0.0/16"
	serviceRange = "10.43.0.0/16"
	pauseImage   = "registry.k8s.io/pause:3.10.1"
)

func command(name string, flags ...string) []string {
	args := []string{stockPrograms + name}
	for _, f := range flags {
		args = append(args, "--"+f)
	}
	return args
}

// etcd has the flags of kubeadm's static pod, less peers.
func (s *stock) etcd() []string {
	address := s.host.Address().String()
	return command("etcd",
		"name="+s.host.Hostname(), "data-dir=/var/lib/etcd",
		"advertise-client-urls=https://"+address+":2379",
		"listen-client-urls=https://127.0.0.1:2379,https://"+address+":2379",
		"listen-metrics-urls=http://127.0.0.1:2381",
		"listen-peer-urls=http://127.0.0.1:2380", "initial-advertise-peer-urls=http://127.0.0.1:2380",
		"initial-cluster="+s.host.Hostname()+"=http://127.0.0.1:2380",
		"cert-file="+stockEtc+"/etcd.crt", "key-file="+stockEtc+"/etcd.key",
		"client-cert-auth=true", "trusted-ca-file="+stockFiles().ClientCA.Cert,
		"snapshot-count=10000", "feature-gates=InitialCorruptCheck=true", "watch-progress-notify-interval=5s")
}

func (s *stock) containerd() []string {
	return []string{stockPrograms + "containerd", "--config", "/etc/containerd/config.toml"}
}

func stockFiles() pki.ServerFiles { return pki.ServerFilesOf(layout.Layout{Data: stockData}) }

// apiserver has the flags of kubeadm's static pod.
func (s *stock) apiserver() []string {
	f := stockFiles()
	return command("kube-apiserver",
		"advertise-address="+s.host.Address().String(), "allow-privileged=true",
		"authorization-mode=Node,RBAC", "client-ca-file="+f.ClientCA.Cert,
		"enable-admission-plugins=NodeRestriction", "enable-bootstrap-token-auth=true",
		"etcd-cafile="+f.ServerCA.Cert, "etcd-certfile="+stockEtc+"/apiserver-etcd-client.crt",
		"etcd-keyfile="+stockEtc+"/apiserver-etcd-client.key", "etcd-servers=https://127.0.0.1:2379",
		"kubelet-client-certificate="+f.KubeletClient.Cert, "kubelet-client-key="+f.KubeletClient.Key,
		"kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file="+f.AuthProxy.Cert, "proxy-client-key-file="+f.AuthProxy.Key,
		"requestheader-allowed-names="+pki.AuthProxyUser, "requestheader-client-ca-file="+f.RequestHeaderCA.Cert,
		"requestheader-extra-headers-prefix=X-Remote-Extra-", "requestheader-group-headers=X-Remote-Group",
		"requestheader-username-headers=X-Remote-User", "secure-port=6443",
		"service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"service-account-key-file="+f.ServiceAccountPub, "service-account-signing-key-file="+f.ServiceAccountKey,
		"service-cluster-ip-range="+serviceRange,
		"tls-cert-file="+f.Serving.Cert, "tls-private-key-file="+f.Serving.Key)
}

// controllerManager has the flags of kubeadm's static pod.
func (s *stock) controllerManager() []string {
	f, config := stockFiles(), stockEtc+"/controller-manager.conf"
	return command("kube-controller-manager",
		"allocate-node-cidrs=true", "authentication-kubeconfig="+config, "authorization-kubeconfig="+config,
		"bind-address=127.0.0.1", "client-ca-file="+f.ClientCA.Cert, "cluster-cidr="+podRange,
		"cluster-signing-cert-file="+f.ClientCA.Cert, "cluster-signing-key-file="+f.ClientCA.Key,
		"controllers=*,bootstrapsigner,tokencleaner", "kubeconfig="+config, "leader-elect=true",
		"requestheader-client-ca-file="+f.RequestHeaderCA.Cert, "root-ca-file="+f.ServerCA.Cert,
		"service-account-private-key-file="+f.ServiceAccountKey, "service-cluster-ip-range="+serviceRange,
		"flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins", "use-service-account-credentials=true")
}

// scheduler has the flags of kubeadm's static pod.
func (s *stock) scheduler() []string {
	config := stockEtc + "/scheduler.conf"
	return command("kube-scheduler", "authentication-kubeconfig="+config, "authorization-kubeconfig="+config,
		"bind-address=127.0.0.1", "kubeconfig="+config, "leader-elect=true")
}

func (s *stock) kubelet() []string {
	return command("kubelet", "config="+stockEtc+"/kubelet.yaml", "kubeconfig="+stockEtc+"/kubelet.conf",
		"hostname-override="+s.host.Hostname(), "node-ip="+s.host.Address().String())
}

// proxy leaves the machine's connection tracking alone, as in a container.
func (s *stock) proxy() []string {
	return command("kube-proxy", "config="+stockEtc+"/proxy.yaml", "hostname-override="+s.host.Hostname())
}

// settings are the files that kubeadm and the administrator would write.
func (s *stock) settings() map[string]string {
	return map[string]string{
		"/etc/containerd/config.toml":       containerdSettings(),
		"/etc/cni/net.d/10-bridge.conflist": cniSettings,
		stockEtc + "/kubelet.yaml":          fmt.Sprintf(kubeletSettings, stockFiles().ClientCA.Cert, runtimeSocket, oomScore()),
		stockEtc + "/proxy.yaml":            fmt.Sprintf(proxySettings, oomScore()),
	}
}

// containerdSettings lets containers start where nobody may lower the
// likelihood of being killed, as Skiff does.
func containerdSettings() string {
	return fmt.Sprintf(`version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = %q
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = %v
`, pauseImage, !mayLowerScore())
}

// oomScore is what components ask for: kubeadm's -999 needs a capability.
func oomScore() string {
	if mayLowerScore() {
		return "-999"
	}
	return currentScore()
}

// mayLowerScore says whether this process, and so the host, has
// CAP_SYS_RESOURCE.
func mayLowerScore() bool {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if mask, found := strings.CutPrefix(line, "CapEff:"); found {
			n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && n&(1<<unix.CAP_SYS_RESOURCE) != 0
		}
	}
	return false
}

func currentScore() string {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return "0"
	}
	return strings.TrimSpace(string(data))
}

const cniSettings = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.0.0/24"}]]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// kubeletSettings are kubeadm's, but for what namespaces make necessary.
const kubeletSettings = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %s}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [10.43.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://%s
oomScoreAdj: %s
staticPodPath: ""
volumePluginDir: /var/lib/kubelet/volumeplugins
evictionHard: {memory.available: 100Mi, nodefs.available: 5%%, imagefs.available: 5%%}
`

const proxySettings = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /etc/kubernetes/proxy.conf}
clusterCIDR: 10.42.0.0/16
mode: nftables
oomScoreAdj: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
