package main

import (
	"context"
	"net"
	"time"

	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	runtimetest "k8s.io/cri-api/pkg/apis/testing"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
	hollowproxy "k8s.io/kubernetes/pkg/proxy/kubemark"
)

// protobuf is what Kubernetes' components speak.
const protobuf = "application/vnd.kubernetes.protobuf"

// maxPods is the kubelet's default.
const maxPods = 110

// start runs one node and returns when its kubelet does. What goes wrong
// later is sent to failed, if that has room.
func start(ctx context.Context, c crowd, node identity, failed chan<- error) error {
	flags, config := settings(c, node.Name)
	client, err := clientset.NewForConfig(clientConfig(c, node, "hollow-kubelet", float32(config.KubeAPIQPS), int(config.KubeAPIBurst)))
	if err != nil {
		return err
	}
	heartbeat := clientConfig(c, node, "hollow-kubelet", -1, 0)
	heartbeat.Timeout = min(config.NodeStatusUpdateFrequency.Duration, time.Duration(config.NodeLeaseDurationSeconds)*time.Second)
	heartbeats, err := clientset.NewForConfig(heartbeat)
	if err != nil {
		return err
	}
	runtimeService, images := bookkeeper()
	hollow := kubemark.NewHollowKubelet(flags, config, client, heartbeats, &cadvisortest.Fake{NodeName: node.Name},
		images, runtimeService, cm.NewStubContainerManager())
	if err := app.RunKubelet(ctx, &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}, hollow.KubeletDeps); err != nil {
		return err
	}
	if err := freeCollectors(); err != nil {
		return err
	}
	return startProxy(c, node.Name, failed)
}

// settings are kubemark's, which has the kubelet's defaults for what the API
// notices, less what would meet the machine: ports, and rules in its packet
// filter.
func settings(c crowd, name string) (*options.KubeletFlags, *kubeletconfig.KubeletConfiguration) {
	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{
		NodeName: name, MaxPods: maxPods, NodeLabels: c.Labels,
	})
	flags.NodeIP = c.Address
	config.EnableServer = false
	config.MakeIPTablesUtilChains = false
	config.MaxOpenFiles = 1 << 20 // of the process, which all kubelets share
	return flags, config
}

// bookkeeper is a container runtime that is ready and has every image.
func bookkeeper() (*runtimetest.FakeRuntimeService, *runtimetest.FakeImageService) {
	r := runtimetest.NewFakeRuntimeService()
	r.FakeStatus = &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}
	return r, runtimetest.NewFakeImageService()
}

// startProxy runs a proxy that watches what all proxies watch and writes no
// rules. Each has a connection of its own although all are one user.
func startProxy(c crowd, name string, failed chan<- error) error {
	config := clientConfig(c, c.Proxy, "hollow-proxy", 5, 10)
	config.Dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	recorder := broadcaster.NewRecorder(legacyscheme.Scheme, "kube-proxy")
	proxy := hollowproxy.NewHollowProxy(name, client, client.CoreV1(), broadcaster, recorder)
	proxy.ProxyServer.Config.Linux.OOMScoreAdj = nil                      // the process is not the proxy's
	proxy.ProxyServer.Config.ConfigSyncPeriod.Duration = 15 * time.Minute // the real one's default
	go func() {
		err := proxy.Run()
		select {
		case failed <- err:
		default:
		}
	}()
	return nil
}

func clientConfig(c crowd, who identity, agent string, qps float32, burst int) *rest.Config {
	return &rest.Config{
		Host:            c.Server,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.CA, CertData: who.Cert, KeyData: who.Key},
		ContentConfig:   rest.ContentConfig{ContentType: protobuf, AcceptContentTypes: protobuf + ",application/json"},
		UserAgent:       agent, QPS: qps, Burst: burst,
	}
}
