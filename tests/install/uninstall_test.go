package install

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// app uses what leaves something on a node: a pod network, Services, a port of
// the host, volumes that are mounts, and a file on the node.
const app = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: skiff/web:test
        volumeMounts: [{name: memory, mountPath: /memory}]
      volumes: [{name: memory, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: skiff/web:test, ports: [{containerPort: 8080, hostPort: 8081}]}]
`

// traces are the kinds of things that a node has and that are to be gone.
func (m machine) traces(t *testing.T) map[string][]string {
	t.Helper()
	of := func(command string) []string { return strings.Split(m.Exec(t, "sh", "-c", command), "\n") }
	return map[string][]string{
		"links":      of("ls /sys/class/net"),
		"addresses":  of("ip -o address show dev lo | awk '{print $4}'"),
		"routes":     of("ip route; ip -6 route"),
		"mounts":     of("cut -d' ' -f5 /proc/self/mountinfo | sort"),
		"processes":  of("list=$(for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null); echo \"$list\" | grep -v -e '^sh -c' -e '^tr ' -e '^$' | sort"),
		"cgroups":    of("find /sys/fs/cgroup -type d | sort"),
		"rules":      of("nft list ruleset; iptables-save; ip6tables-save"),
		"namespaces": of("ls /run/netns 2>/dev/null || true"),
		"volatile":   of("find /run | sort"),
		"files":      m.written(t),
	}
}

// written lists what the host has on its disk beside what it sees of the machine.
func (m machine) written(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{"root", "overlay"} {
		base := filepath.Join(m.Directory(), dir)
		err := filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error {
			if d != nil && d.Name() == ".kube" {
				return filepath.SkipDir // kubectl's cache, of the user who ran it
			}
			inside := strings.TrimPrefix(path, base)
			if err == nil && !strings.Contains(path, "/work/") && !(d.IsDir() && isDirectory(strings.Replace(inside, "/upper", "", 1))) {
				all = append(all, inside)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

// isDirectory says whether the machine has a directory: an overlay copies those
// in which something changes.
func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func TestNothingIsLeftAfterUninstalling(t *testing.T) {
	m := newMachine(t)
	// Made in passing by others, the last one by mount.
	m.Exec(t, "mkdir", "-p", "/etc/systemd/system/multi-user.target.wants", bin, "/run/mount")
	before := m.traces(t)
	m.install(t, []string{"INSTALL_SKIFF_SYMLINK=force"}, "--node-label=zone=a")
	if err := m.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := m.serve(t)
	m.Apply(t, app)
	for _, object := range []string{"pod/port", "deployment/web"} {
		condition := map[bool]string{true: "condition=Ready", false: "condition=Available"}[strings.HasPrefix(object, "pod/")]
		m.Kubectl(t, "wait", "--timeout=100s", "--for="+condition, object)
	}
	pod := m.Kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}")

	r := m.Outcome(t, nshost.Cmd{Args: []string{bin + "/skiff-uninstall.sh"}})
	if r.Code == 0 {
		t.Error("a Skiff that somebody else has started was taken away")
	}
	has(t, "the refusal", r.Stderr, "is not that of the service skiff: stop it first")
	m.Exec(t, "curl", "-sSf", "http://"+pod+":8080/")

	if err := server.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	m.Exec(t, "curl", "-sSf", "http://"+pod+":8080/") // pods outlive Skiff
	m.Exec(t, "mount", "-t", "tmpfs", "mine", m.volume(t))
	r = m.Outcome(t, nshost.Cmd{Args: []string{bin + "/skiff-uninstall.sh"}})
	if r.Code == 0 {
		t.Error("files that somebody has mounted there were removed")
	}
	has(t, "the refusal", r.Stderr, "something is mounted that would be emptied")
	m.Exec(t, "umount", "/var/lib/skiff/agent/mine")

	m.Exec(t, bin+"/skiff-uninstall.sh")
	after := m.traces(t)
	for kind, were := range before {
		for _, is := range after[kind] {
			if !slices.Contains(were, is) {
				t.Errorf("left of the %s: %s", kind, is)
			}
		}
		for _, was := range were {
			if !slices.Contains(after[kind], was) {
				t.Errorf("gone of the %s: %s", kind, was)
			}
		}
	}
}

// volume makes a directory for somebody's own disk below Skiff's.
func (m machine) volume(t *testing.T) string {
	t.Helper()
	m.Exec(t, "mkdir", "/var/lib/skiff/agent/mine")
	return "/var/lib/skiff/agent/mine"
}

// serve starts the installed program as the unit does, and waits for its node.
func (m machine) serve(t *testing.T) *nshost.Process {
	t.Helper()
	log, err := os.Create(filepath.Join(m.Directory(), "installed.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := m.Start(context.Background(), nshost.Cmd{Args: []string{bin + "/skiff", "server"}, Stdout: log, Stderr: log})
	if err != nil {
		t.Fatal(err)
	}
	framework.Eventually(t, framework.ReadyTimeout, "the node is Ready", func() error {
		select {
		case <-p.Done():
			text, _ := os.ReadFile(log.Name())
			return framework.Permanent(&nshost.ExitError{Args: []string{"skiff", "server"}, Stderr: string(text)})
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := m.TryKubectl(ctx, "wait", "--for=condition=Ready", "--timeout=5s", "nodes", "--all")
		return err
	})
	m.Kubectl(t, "wait", "--for=create", "--timeout=60s", "serviceaccount/default")
	return p
}
