package framework

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// leakGrace is how long the kernel may take to let go of network namespaces
// and cgroups after the last process has ended.
const leakGrace = 15 * time.Second

// machine is what tests could leave behind on the machine, as "kind: name"
// lines. Other users of the machine make things at the same time, so it holds
// what can be told to be ours: by the run's id, by the names that Kubernetes
// components use, and by our files.
type machine map[string]bool

// lookAt lists what is there now.
func lookAt(run string) (machine, error) {
	m := machine{}
	return m, errors.Join(m.links(run), m.namespaces(), m.mounts(run), m.cgroups(run), m.tables(), m.processes(run), m.files())
}

// awaitSame waits until nothing is there that was not there before.
func (m machine) awaitSame(ctx context.Context, run string) error {
	return poll(ctx, 100*time.Millisecond, func() error {
		now, err := lookAt(run)
		if err != nil {
			return permanent{err}
		}
		var left []string
		for item := range now {
			if !m[item] {
				left = append(left, item)
			}
		}
		if len(left) == 0 {
			return nil
		}
		sort.Strings(left)
		return fmt.Errorf("the tests left on the machine:\n  %s", strings.Join(left, "\n  "))
	})
}

func (m machine) add(kind, name string) { m[kind+": "+name] = true }

// links lists this run's links, and those that a node would make if it were
// not in a namespace.
func (m machine) links(run string) error {
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, prefix := range []string{nshost.LinkName(run), "cni0", "flannel", "kube-", "nodelocaldns", "skiff"} {
			if strings.HasPrefix(e.Name(), prefix) {
				m.add("link", e.Name())
			}
		}
	}
	return nil
}

func (m machine) namespaces() error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "cni-") {
			m.add("network namespace", e.Name())
		}
	}
	return nil
}

func (m machine) mounts(run string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		for _, part := range []string{nshost.Base() + "/" + run, "/var/lib/kubelet", "/run/skiff", "/var/lib/skiff", "/run/netns"} {
			if len(fields) > 4 && strings.HasPrefix(fields[4], part) {
				m.add("mount", fields[4])
			}
		}
	}
	return nil
}

func (m machine) cgroups(run string) error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // cgroups of others come and go while we look
		}
		name := d.Name()
		switch {
		case strings.HasPrefix(name, "skifftest-"+run), strings.HasPrefix(name, "kubepods"):
			m.add("cgroup", path)
			return fs.SkipDir
		case strings.HasPrefix(name, "skifftest-"):
			return fs.SkipDir
		}
		return nil
	})
}

// tables lists nftables and iptables chains in the machine's own namespace.
func (m machine) tables() error {
	out, err := exec.Command("nft", "list", "tables").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the machine's nft tables: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		for _, word := range []string{"kube", "skiff", "flannel", "cni"} {
			if strings.Contains(line, word) {
				m.add("nft", strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// processes lists what runs in the cgroups or from the files of this run. The
// tests themselves are not in there.
func (m machine) processes(run string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid := e.Name()
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
		root, _ := os.Readlink(filepath.Join("/proc", pid, "root"))
		executable, _ := os.Readlink(filepath.Join("/proc", pid, "exe"))
		base := nshost.Base() + "/" + run
		if strings.Contains(string(groups), "skifftest-"+run) || strings.HasPrefix(root, base) || strings.HasPrefix(executable, base) {
			command, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			m.add("process", pid+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return nil
}

// files lists what a server would write outside of its host.
func (m machine) files() error {
	for _, path := range []string{"/var/lib/skiff", "/etc/skiff", "/run/skiff", "/var/lib/kubelet", "/etc/cni/net.d", "/var/lib/cni", "/run/flannel"} {
		if _, err := os.Lstat(path); err == nil {
			m.add("file", path)
		}
	}
	return nil
}
