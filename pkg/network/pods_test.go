package network_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/network"
	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

const (
	pauseName   = "skiff.test/pause:1"
	busyboxName = "skiff.test/busybox:1"
)

// machine is a containerd and a pod network, and a client outside.
type machine struct {
	cri     runtimeapi.RuntimeServiceClient
	outside int // process ID in the namespace of the client outside
	cgroup  string
}

func sh(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// background runs a program until the test ends. It ends with the test's
// process, too, whose process namespace goes with it. Pdeathsig would end it
// with the thread that started it, and the CRI ends threads: it changes their
// network namespace and throws them away.
func background(t *testing.T, flags uintptr, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func component(t *testing.T, run func(context.Context, func()) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a component ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("a component ended: %v", err)
	}
}

func startMachine(t *testing.T, dir, payload string, nft bool) *machine {
	t.Helper()
	m := &machine{cgroup: nstest.Cgroup(t)}
	m.outside = background(t, syscall.CLONE_NEWNET, "sleep", "1000")
	sh(t, fmt.Sprintf(`ip link add up0 type veth peer name up1 netns %d
		ip addr add 192.0.2.1/24 dev up0; ip link set up0 up
		nsenter -n -t %d sh -c 'ip addr add 192.0.2.2/24 dev up1; ip link set up1 up; ip link set lo up'`, m.outside, m.outside))
	plugins := filepath.Join(dir, "cni")
	sh(t, fmt.Sprintf("mkdir %s; for p in bridge host-local loopback portmap; do ln -s %s/cni %s/$p; done", plugins, payload, plugins))

	l := layout.Layout{Data: filepath.Join(dir, "data"), Run: "/run/skiff", Config: filepath.Join(dir, "etc")}
	t.Setenv("PATH", l.Helpers()+":"+os.Getenv("PATH"))
	logger := logrus.New()
	logger.SetOutput(os.Stdout)
	c := containerd.New(containerd.Config{
		Layout: l, PauseImage: pauseName, CNIBinDirs: []string{plugins}, RestrictOOMScoreAdj: true,
		RuncPath: filepath.Join(payload, "runc"), ShimPath: filepath.Join(payload, "containerd-shim-runc-v2"),
	}, logger.WithField("component", "containerd"))
	component(t, c.Run)
	services, err := c.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	load(t, services, payload)
	conn, err := grpc.NewClient("unix://"+l.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m.cri = runtimeapi.NewRuntimeServiceClient(conn)
	if m.networkReady(t) {
		t.Fatal("the CRI has a network before there is one")
	}
	api := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: corev1.NodeSpec{PodCIDR: "10.42.0.0/24"}})
	n := network.New(network.Config{
		Layout: l, NodeName: "one", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}, Backend: network.BackendVXLAN, NFTables: nft,
	}, api, logger.WithField("component", "network"))
	began := time.Now()
	component(t, n.Run)
	for !m.networkReady(t) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the CRI does not notice the network")
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("start of the network to NetworkReady: %s", time.Since(began))
	return m
}

func load(t *testing.T, s containerd.Services, payload string) {
	t.Helper()
	var archive bytes.Buffer
	err := imagetar.Write(&archive,
		imagetar.Image{Name: pauseName, Entrypoint: []string{"/pause"}, Files: []imagetar.File{
			{Path: "/pause", Mode: 0o755, Data: read(t, filepath.Join(payload, "pause"))}}},
		imagetar.Image{Name: busyboxName, Entrypoint: []string{"/bin/busybox"}, Files: []imagetar.File{
			{Path: "/bin/busybox", Mode: 0o755, Data: read(t, "/usr/bin/busybox")},
			{Path: "/www/index.html", Mode: 0o644, Data: []byte("welcome\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := namespaces.WithNamespace(t.Context(), containerd.Namespace)
	images, err := s.Client.Import(ctx, &archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if err := client.NewImage(s.Client, i).Unpack(ctx, "overlayfs"); err != nil {
			t.Fatal(err)
		}
		if err := s.RefreshImage(ctx, i.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) networkReady(t *testing.T) bool {
	t.Helper()
	status, err := m.cri.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Status.Conditions {
		if c.Type == runtimeapi.NetworkReady {
			return c.Status
		}
	}
	return false
}

// pod runs a web server in a pod and returns its container and address.
func (m *machine) pod(t *testing.T, name string, ports ...*runtimeapi.PortMapping) (container, ip string) {
	t.Helper()
	pod := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		Hostname:     name,
		LogDirectory: t.TempDir(),
		PortMappings: ports,
		Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: m.cgroup},
	}
	began := time.Now()
	s, err := m.cri.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_, err := m.cri.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.PodSandboxId})
		if err == nil {
			_, err = m.cri.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.PodSandboxId})
		}
		if err != nil {
			t.Errorf("remove the pod %s: %v", name, err)
		}
	})
	c, err := m.cri.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: s.PodSandboxId, SandboxConfig: pod,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "web"},
			Image:    &runtimeapi.ImageSpec{Image: busyboxName},
			Args:     []string{"httpd", "-f", "-p", "80", "-h", "/www"},
			LogPath:  "web.log",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.cri.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the pod %s took %s", name, time.Since(began))
	status, err := m.cri.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.PodSandboxId})
	if err != nil {
		t.Fatal(err)
	}
	return c.ContainerId, status.Status.Network.Ip
}

// get is a shell command that asks a web server for its page. Debian's static
// busybox has a wget that crashes.
func get(ip string, port int) string {
	return fmt.Sprintf(`printf 'GET /index.html HTTP/1.0\r\n\r\n' | busybox nc -w 2 %s %d`, ip, port)
}

// answers says whether a web server is reached from a container.
func (m *machine) answers(t *testing.T, container, ip string, port int) bool {
	t.Helper()
	got, err := m.cri.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{
		ContainerId: container, Cmd: []string{"/bin/busybox", "sh", "-c", get(ip, port)}, Timeout: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(got.Stdout, []byte("welcome"))
}

func (m *machine) wantAnswer(t *testing.T, container, ip string, port int) {
	t.Helper()
	if !m.answers(t, container, ip, port) {
		t.Errorf("%s port %d does not answer", ip, port)
	}
}

func testPods(t *testing.T, nft bool) {
	payload := nstest.Payload(t)
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	m := startMachine(t, dir, payload, nft)
	a, ipA := m.pod(t, "a", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080})
	b, ipB := m.pod(t, "b")
	if !strings.HasPrefix(ipA, "10.42.0.") || !strings.HasPrefix(ipB, "10.42.0.") || ipA == ipB {
		t.Fatalf("the pods have the addresses %s and %s", ipA, ipB)
	}
	t.Run("pods reach each other", func(t *testing.T) {
		m.wantAnswer(t, a, ipB, 80)
		m.wantAnswer(t, b, ipA, 80)
	})
	t.Run("the host reaches a pod", func(t *testing.T) {
		if got := sh(t, get(ipA, 80)); !strings.Contains(got, "welcome") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a host port is reached from outside, from another pod and from the pod itself", func(t *testing.T) {
		if got := sh(t, fmt.Sprintf(`nsenter -n -t %d sh -c "%s"`, m.outside, get("192.0.2.1", 8080))); !strings.Contains(got, "welcome") {
			t.Errorf("got %q", got)
		}
		m.wantAnswer(t, b, "192.0.2.1", 8080)
		m.wantAnswer(t, a, "192.0.2.1", 8080)
	})
	t.Run("who is outside sees the node's address, not the pod's", func(t *testing.T) {
		seen := filepath.Join(dir, "seen")
		if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("welcome\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		background(t, 0, "nsenter", "-n", "-t", fmt.Sprint(m.outside), "sh", "-c",
			fmt.Sprintf("exec busybox httpd -f -vv -p 9001 -h %s 2>%s", dir, seen))
		m.wantSoon(t, b, "192.0.2.2", 9001)
		if log := read(t, seen); !bytes.Contains(log, []byte("192.0.2.1]")) || bytes.Contains(log, []byte("10.42.")) {
			t.Errorf("outside is seen: %s", log)
		}
		// As Docker and ufw do it.
		sh(t, "iptables -P FORWARD DROP")
		m.wantSoon(t, b, "192.0.2.2", 9001)
	})
}

// wantSoon gives a server and packet filter rules time to come up.
func (m *machine) wantSoon(t *testing.T, container, ip string, port int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !m.answers(t, container, ip, port) {
		if time.Now().After(deadline) {
			t.Fatalf("%s port %d does not answer", ip, port)
		}
	}
}

func TestPodsWithNFTables(t *testing.T) { testPods(t, true) }

func TestPodsWithIPTables(t *testing.T) { testPods(t, false) }
