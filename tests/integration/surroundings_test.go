package integration

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// complaint starts a server that cannot work and gives what it said at the end.
func complaint(t *testing.T, h *framework.Host, uid uint32, args ...string) string {
	t.Helper()
	c := nshost.Cmd{Args: append([]string{"skiff", "server"}, args...), UID: uid}
	begin := time.Now()
	result := h.Outcome(t, c)
	if result.Code == 0 {
		t.Errorf("the exit status is 0; it said\n%s", result.Stderr)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %s to say", took)
	}
	lines := strings.Split(strings.TrimSpace(result.Stderr+result.Stdout), "\n")
	last := strings.Join(lines[max(0, len(lines)-8):], "\n")
	if strings.Contains(result.Stderr, "panic:") || strings.Contains(result.Stderr, "goroutine ") {
		t.Errorf("it panicked:\n%s", result.Stderr)
	}
	return last
}

func speaksOf(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the message does not speak of %q:\n%s", w, text)
		}
	}
}

// awaitPort waits until a process in the host accepts connections.
func awaitPort(t *testing.T, h *framework.Host, p *nshost.Process, port string) {
	t.Helper()
	framework.Eventually(t, 10*time.Second, "port "+port+" is served", func() error {
		select {
		case <-p.Done():
			return framework.Permanent(errors.New("the process that should serve it has ended"))
		default:
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(h.Address().String(), port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func TestBadSurroundings(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)

	t.Run("an unknown key in the configuration file", func(t *testing.T) {
		h.WriteFile(t, "/etc/skiff/config.yaml", "nod-name: a\ncluster-cidr: 10.42.0.0/33\n")
		out := complaint(t, h, 0)
		speaksOf(t, out, "/etc/skiff/config.yaml", "nod-name", "node-name", "cluster-cidr", "10.42.0.0/33")
		result := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "config", "check"}})
		if result.Code == 0 {
			t.Error("config check finds nothing")
		}
		speaksOf(t, result.Stderr+result.Stdout, "nod-name", "node-name", "10.42.0.0/33")
		h.Exec(t, "rm", "/etc/skiff/config.yaml")
		h.Exec(t, "skiff", "config", "check")
	})
	t.Run("a bad CIDR in a flag and in the environment", func(t *testing.T) {
		speaksOf(t, complaint(t, h, 0, "--service-cidr=ten"), "service-cidr", "ten")
		result := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "server"}, Env: []string{"SKIFF_CLUSTER_CIDR=10.42.0.0"}})
		if result.Code == 0 {
			t.Error("a bad CIDR in the environment is accepted")
		}
		speaksOf(t, result.Stderr, "SKIFF_CLUSTER_CIDR", "10.42.0.0")
	})
	t.Run("an unknown flag", func(t *testing.T) {
		speaksOf(t, complaint(t, h, 0, "--nod-name=a"), "nod-name", "node-name")
	})
	t.Run("not root", func(t *testing.T) {
		speaksOf(t, complaint(t, h, 1000), "root")
	})
	t.Run("a directory that cannot be written", func(t *testing.T) {
		h.Exec(t, "sh", "-ec", "mkdir -p /srv/readonly && mount -t tmpfs -o ro none /srv/readonly")
		speaksOf(t, complaint(t, h, 0, "--data-dir=/srv/readonly/skiff"), "/srv/readonly")
	})
	t.Run("a port in use", func(t *testing.T) {
		p, err := h.Start(t.Context(), nshost.Cmd{Args: []string{"busybox", "httpd", "-f", "-p", "6443", "-h", "/srv"}})
		if err != nil {
			t.Fatal(err)
		}
		awaitPort(t, h, p, "6443")
		speaksOf(t, complaint(t, h, 0), "6443", "in use")
		if err := p.Signal(9); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	})
	t.Run("a damaged database file is reported and left alone", func(t *testing.T) {
		const path = "/var/lib/skiff/server/db/state.db"
		h.Exec(t, "sh", "-ec", "mkdir -p ${0%/*} && head -c 100000 /dev/urandom >$0", path)
		before := h.Exec(t, "sha256sum", path)
		speaksOf(t, complaint(t, h, 0), path)
		if after := h.Exec(t, "sha256sum", path); after != before {
			t.Error("the file was changed")
		}
		h.Exec(t, "rm", "-r", "/var/lib/skiff/server")
	})
	t.Run("what was in the way is gone, and the server starts", func(t *testing.T) {
		server := h.StartServer(t)
		server.AwaitReady(t)
		t.Run("a second server on the same directory", func(t *testing.T) {
			speaksOf(t, complaint(t, h, 0), "/var/lib/skiff")
			h.Kubectl(t, "get", "nodes")
		})
		t.Run("a damaged page in the database is reported and left alone", func(t *testing.T) {
			h.Kubectl(t, "create", "configmap", "kept")
			server.MustStopCleanly(t)
			damagedPage(t, h)
		})
	})
}

// damagedPage overwrites the middle of a good database.
func damagedPage(t *testing.T, h *framework.Host) {
	const path = "/var/lib/skiff/server/db/state.db"
	h.Exec(t, "sh", "-ec", `cp $0 /srv/good.db
		size=$(stat -c %s $0)
		dd if=/dev/urandom of=$0 bs=4096 count=$((size / 8192)) seek=$((size / 16384)) conv=notrunc 2>/dev/null`, path)
	speaksOf(t, complaint(t, h, 0), path)
	h.Exec(t, "sh", "-ec", `rm -f $0-wal $0-shm; cp /srv/good.db $0`, path)
	server := h.StartServer(t)
	server.AwaitReady(t)
	h.Kubectl(t, "get", "configmap", "kept")
	server.MustStopCleanly(t)
}

func TestDiskPressure(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	// The kubelet's directory on a small file system of its own.
	h.Exec(t, "sh", "-ec", `truncate -s 200M /var/kubelet.img && mkfs.ext4 -q -m 0 /var/kubelet.img
		mkdir -p /var/lib/kubelet && mount -o loop /var/kubelet.img /var/lib/kubelet`)
	t.Cleanup(func() { _, _ = h.Try(context.Background(), nil, "umount", "-l", "/var/lib/kubelet") })
	if err := h.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := h.StartServer(t, "--kubelet-arg=eviction-hard=nodefs.available<80Mi", "--kubelet-arg=eviction-minimum-reclaim=nodefs.available=1Mi", "--kubelet-arg=eviction-pressure-transition-period=5s")
	server.AwaitReady(t)
	n := h.NewNamespace(t)
	n.Apply(t, with(strings.Replace(shell("greedy", "dd if=/dev/zero of=/scratch/file bs=1M count=130; exec sleep 100000"),
		"image: busybox:test", "image: busybox:test, volumeMounts: [{name: scratch, mountPath: /scratch}]", 1),
		"  volumes: [{name: scratch, emptyDir: {}}]"))
	n.Wait(t, "condition=DiskPressure", "node/"+h.Hostname())
	n.Wait(t, "jsonpath={.status.reason}=Evicted", "pod/greedy")
	if got := n.Get(t, "pod/greedy", ".status.message"); !strings.Contains(got, "ephemeral-storage") {
		t.Errorf("the pod was evicted because of %q", got)
	}
	n.Wait(t, "condition=DiskPressure=false", "node/"+h.Hostname())
	n.Apply(t, idle("modest"))
	n.Wait(t, "condition=Ready", "pod/modest")
}
