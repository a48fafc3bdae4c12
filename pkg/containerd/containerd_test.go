package containerd_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

// node is the kubelet's view of a running containerd.
type node struct {
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
}

func connect(t *testing.T, cfg containerd.Config) node {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+cfg.Layout.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return node{runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)}
}

func mustReadFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// load puts the two test images into containerd by its socket.
func load(t *testing.T, cfg containerd.Config, payload string) {
	t.Helper()
	var archive bytes.Buffer
	err := imagetar.Write(&archive,
		imagetar.Image{Name: pauseImage, Entrypoint: []string{"/pause"}, Files: []imagetar.File{
			{Path: "/pause", Mode: 0o755, Data: mustReadFile(t, filepath.Join(payload, "pause"))}}},
		imagetar.Image{Name: busyboxImage, Entrypoint: []string{"/bin/busybox"}, Files: []imagetar.File{
			{Path: "/bin/busybox", Mode: 0o755, Data: mustReadFile(t, "/usr/bin/busybox")}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(cfg.Layout.ContainerdSocket(), client.WithDefaultNamespace(containerd.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	images, err := c.Import(t.Context(), &archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if err := client.NewImage(c, i).Unpack(t.Context(), "overlayfs"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the CRI knows the pause image", func(ctx context.Context) bool {
		got, err := connect(t, cfg).images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: pauseImage}})
		return err == nil && got.Image != nil
	})
}

// eventually is for what nothing can be waited on.
func eventually(t *testing.T, what string, check func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !check(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// startPod runs a pod on the host's network with one busybox that sleeps.
func (n node) startPod(t *testing.T, cgroup string) (sandbox, container string) {
	t.Helper()
	pod := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: "1"},
		LogDirectory: t.TempDir(),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: cgroup,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE},
			},
		},
	}
	s, err := n.runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: s.PodSandboxId, SandboxConfig: pod,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "c"},
			Image:    &runtimeapi.ImageSpec{Image: busyboxImage},
			Args:     []string{"sleep", "1000"},
			LogPath:  "c.log",
			Linux:    &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{OomScoreAdj: -500}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	return s.PodSandboxId, c.ContainerId
}

func (n node) startedAt(t *testing.T, container string) int64 {
	t.Helper()
	got, err := n.runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: container})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("the container is %s, want it running", got.Status.State)
	}
	return got.Status.StartedAt
}

func (n node) exec(t *testing.T, container string, command ...string) string {
	t.Helper()
	got, err := n.runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: container, Cmd: command, Timeout: 10})
	if err != nil {
		t.Fatal(err)
	}
	return string(got.Stdout)
}

func TestContainersOutliveContainerd(t *testing.T) {
	payload := nstest.Payload(t)
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	cfg := testConfig(dir, payload)
	d, err := startDaemon(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("empty directory to ready: %s", d.took)
	for _, line := range d.log {
		if strings.Contains(line, "changed:") || strings.Contains(line, "level=warning") || strings.Contains(line, "level=error") {
			t.Errorf("starting containerd: %s", line)
		}
	}
	load(t, cfg, payload)
	n := connect(t, cfg)
	cgroup := nstest.Cgroup(t)
	sandbox, container := n.startPod(t, cgroup)
	started := n.startedAt(t, container)
	check := func(what string) {
		t.Helper()
		if got := connect(t, cfg).startedAt(t, container); got != started {
			t.Errorf("after %s the container was started at %d, before it at %d", what, got, started)
		}
		if got := connect(t, cfg).exec(t, container, "/bin/busybox", "echo", "hello"); got != "hello\n" {
			t.Errorf("after %s echo says %q", what, got)
		}
	}
	check("the start")

	d.kill(t)
	if d, err = startDaemon(t, cfg); err != nil {
		t.Fatal(err)
	}
	t.Logf("with a container to ready: %s", d.took)
	check("a kill")

	if took := d.stop(t); took > 2*time.Second {
		t.Errorf("stopping took %s, want less than 2 s", took)
	} else {
		t.Logf("stopped within %s", took)
	}
	if d, err = startDaemon(t, cfg); err != nil {
		t.Fatal(err)
	}
	check("a restart")

	n = connect(t, cfg)
	if _, err := n.runtime.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.runtime.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}
	d.stop(t)
}

func TestOnlyRootMayUseTheSocketAndReadTheConfiguration(t *testing.T) {
	payload := nstest.Payload(t)
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	cfg := testConfig(dir, payload)
	d, err := startDaemon(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop(t)
	for _, path := range []string{
		cfg.Layout.ContainerdSocket(), cfg.Layout.ContainerdSocket() + ".ttrpc", cfg.Layout.AgentEtc("containerd", "config.toml"),
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", path, got)
		}
	}
}

func TestDropInsOfTheAdministrator(t *testing.T) {
	payload := nstest.Payload(t)
	dir, inside := nstest.Inside(t)
	if !inside {
		return
	}
	cfg := testConfig(dir, payload)
	if err := os.MkdirAll(cfg.Layout.ContainerdDropIns(), 0o755); err != nil {
		t.Fatal(err)
	}
	dropIn := cfg.Layout.ContainerdDropIns("crun.toml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(dropIn, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`version = 4
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.crun]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.crun.options]
    BinaryName = "/usr/bin/crun"
[proxy_plugins.stargz]
  type = "snapshot"
  address = "/run/stargz.sock"
`)
	d, err := startDaemon(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	status, err := connect(t, cfg).runtime.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/usr/bin/crun", cfg.Layout.Helpers("runc")} {
		if !strings.Contains(status.Info["config"], want) {
			t.Errorf("the CRI's configuration lacks %s", want)
		}
	}
	d.stop(t)

	write("this is no TOML\n")
	if _, err = startDaemon(t, cfg); err == nil || !strings.Contains(err.Error(), cfg.Layout.ContainerdDropIns()) {
		t.Errorf("with a broken drop-in the error is %v, want one that names the directory", err)
	}
}
