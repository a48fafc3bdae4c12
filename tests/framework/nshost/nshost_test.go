package nshost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	RunInit()
	os.Exit(m.Run())
}

// twoHosts makes a network with two hosts, or skips without root.
func twoHosts(t *testing.T, families ...Family) (*Network, *Host, *Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces can be made by root only")
	}
	run := fmt.Sprintf("%04x", os.Getpid()&0xffff)
	base, err := os.MkdirTemp("/var/tmp", "skiff-nshost-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	n, err := NewNetwork(LinkName(run)+"n", families...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if left, err := OwnLinks(run); err != nil || len(left) > 0 {
			t.Errorf("left on the machine: links %v, %v", left, err)
		}
	})
	return n, newHost(t, n, base, run, "a"), newHost(t, n, base, run, "b")
}

// addHost makes one more host beside another.
func addHost(t *testing.T, n *Network, beside *Host, id string) *Host {
	t.Helper()
	return newHost(t, n, filepath.Dir(beside.Directory()), beside.ID()[:4], id)
}

func newHost(t *testing.T, n *Network, base, run, id string) *Host {
	t.Helper()
	h, err := New(t.Context(), Config{ID: run + id, Hostname: "host-" + id, Base: base, Network: n})
	if errors.Is(err, syscall.EPERM) && os.Getenv("SKIFF_REQUIRE") == "" {
		t.Skip("this root may not make namespaces: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndCheck(t, h) })
	return h
}

func closeAndCheck(t *testing.T, h *Host) {
	pid := h.PID()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("the init of %s still runs", h.ID())
	}
	for _, c := range h.spec.Cgroups {
		if _, err := os.Stat(c.Path); err == nil {
			t.Errorf("cgroup %s is still there", c.Path)
		}
	}
	if _, err := os.Stat(h.Directory()); err == nil {
		t.Errorf("%s is still there", h.Directory())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(h.Directory())) {
		t.Errorf("mounts below %s are still there", h.Directory())
	}
}

func output(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := h.Run(t.Context(), Cmd{Args: args, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestHosts(t *testing.T) {
	n, a, b := twoHosts(t)

	t.Run("have names, addresses and files of their own", func(t *testing.T) {
		for h, name := range map[*Host]string{a: "host-a", b: "host-b"} {
			if got := output(t, h, "hostname"); got != name {
				t.Errorf("hostname is %q, want %q", got, name)
			}
			output(t, h, "sh", "-c", "echo "+name+" >/etc/mark && cp /etc/mark /var/lib/ && echo $$ >/run/mark")
			if got := output(t, h, "cat", "/etc/mark", "/var/lib/mark"); got != name+"\n"+name {
				t.Errorf("files hold %q", got)
			}
			if got := output(t, h, "cat", "/etc/resolv.conf"); !strings.Contains(got, n.Gateway().String()) {
				t.Errorf("resolv.conf is %q", got)
			}
		}
		for _, f := range []string{"/etc/mark", "/var/lib/mark", "/run/mark"} {
			if _, err := os.Stat(f); err == nil {
				t.Errorf("%s was written to the machine", f)
			}
		}
	})

	t.Run("see only their own links, processes and cgroups", func(t *testing.T) {
		if got := output(t, a, "ls", "/sys/class/net"); got != "eth0\nlo" {
			t.Errorf("links: %q", got)
		}
		if got := output(t, a, "sh", "-c", "cat /proc/[0-9]*/comm"); got != "skiff-host-init\nsh" {
			t.Errorf("processes: %q", got)
		}
		output(t, a, "sh", "-c", `for c in /sys/fs/cgroup/memory /sys/fs/cgroup; do
			[ -e $c/cgroup.procs ] || continue
			mkdir $c/probe && ls $c/probe/cgroup.procs && exit
			done; exit 1`)
		if got := a.CgroupPath("memory", "probe"); got == "" {
			t.Error("no memory hierarchy")
		} else if _, err := os.Stat(got); err != nil {
			t.Error(err)
		}
		if got := output(t, b, "sh", "-c", "find /sys/fs/cgroup -name probe"); got != "" {
			t.Errorf("b sees a's cgroup %s", got)
		}
	})

	t.Run("can write to overlay mounts and see mounts propagate", func(t *testing.T) {
		output(t, a, "sh", "-ec", `mkdir -p /var/lib/o/l /var/lib/o/u /var/lib/o/w /var/lib/o/m
			mount -t overlay o -o lowerdir=/var/lib/o/l,upperdir=/var/lib/o/u,workdir=/var/lib/o/w /var/lib/o/m
			echo x > /var/lib/o/m/f && cat /var/lib/o/u/f
			findmnt -no PROPAGATION / | grep -q shared`)
	})

	t.Run("reach each other and are reached from the machine", func(t *testing.T) {
		output(t, a, "sh", "-c", "mkdir -p /srv/www && hostname >/srv/www/index.html")
		server, err := a.Start(t.Context(), Cmd{Args: []string{"busybox", "httpd", "-f", "-p", "80", "-h", "/srv/www"}})
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + a.Address().String() + "/"
		fetch := func() (string, error) {
			response, err := http.Get(url)
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			return string(body), err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := until(ctx, 20*time.Millisecond, func() (bool, error) { _, err := fetch(); return err == nil, err }); err != nil {
			t.Fatal(err)
		}
		if got, err := fetch(); got != "host-a\n" {
			t.Errorf("the machine got %q, %v", got, err)
		}
		if got := output(t, b, "busybox", "wget", "-qO-", url); got != "host-a" {
			t.Errorf("b got %q", got)
		}
		if err := server.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if exit, err := server.Wait(); err != nil || exit.Signal != syscall.SIGKILL {
			t.Errorf("the server ended with %+v, %v", exit, err)
		}
	})

	t.Run("keep the orphans of a process that was killed", func(t *testing.T) {
		p, err := a.Start(t.Context(), Cmd{Args: []string{"sh", "-c", "sleep 1000 & echo $! >/run/child; wait"}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := until(ctx, 10*time.Millisecond, func() (bool, error) {
			err := a.Run(ctx, Cmd{Args: []string{"grep", "-q", ".", "/run/child"}})
			return err == nil, err
		}); err != nil {
			t.Fatal(err)
		}
		if err := p.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if got := output(t, a, "sh", "-c", "cut -d' ' -f4 /proc/$(cat /run/child)/stat"); got != "1" {
			t.Errorf("the orphan's parent is %s, want the init", got)
		}
	})
}

func TestCommands(t *testing.T) {
	_, a, _ := twoHosts(t)
	tests := []struct {
		name string
		cmd  Cmd
		want int
		out  string
	}{
		{"exit status is reported", Cmd{Args: []string{"sh", "-c", "exit 7"}}, 7, ""},
		{"standard input is read to its end", Cmd{Args: []string{"cat"}, Stdin: strings.NewReader("hello")}, 0, "hello"},
		{"another user can be asked for", Cmd{Args: []string{"id", "-u"}, UID: 1000}, 0, "1000\n"},
		{"environment is added", Cmd{Args: []string{"sh", "-c", "echo $A $HOME"}, Env: []string{"A=b"}}, 0, "b /root\n"},
		{"environment is replaced", Cmd{Args: []string{"sh", "-c", "env | grep ^HOME=; echo $HOME"}, Env: []string{"HOME=/srv"}}, 0, "HOME=/srv\n/srv\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tt.cmd.Stdout = &out
			err := a.Run(t.Context(), tt.cmd)
			var failed *ExitError
			code := 0
			if errors.As(err, &failed) {
				code, err = failed.Exit.Code, nil
			}
			if err != nil || code != tt.want || out.String() != tt.out {
				t.Errorf("got %d %q %v", code, out.String(), err)
			}
		})
	}
	t.Run("an unknown command is named", func(t *testing.T) {
		err := a.Run(t.Context(), Cmd{Args: []string{"no-such-command"}})
		if err == nil || !strings.Contains(err.Error(), "no-such-command") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the end of the context kills", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := a.Run(ctx, Cmd{Args: []string{"sleep", "1000"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPermanentHostIsFoundAgain(t *testing.T) {
	n, a, _ := twoHosts(t)
	base := filepath.Dir(a.Directory())
	names, err := NameSockets(n.Gateway())
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(t.Context(), Config{ID: a.ID()[:4] + "p", Base: base, Network: n, Permanent: true, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range names {
		f.Close()
	}
	h, err := Load(base, made.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, h, "getent", "ahostsv4", ExternalName); !strings.HasPrefix(got, n.Gateway().String()) {
		t.Errorf("%s resolves to %q", ExternalName, got)
	}
	same, err := NetworkOf(base, made.ID())
	if err != nil {
		t.Fatal(err)
	}
	beside := newHost(t, same, base, a.ID()[:4], "q")
	if !comesToReach(t, beside, h.Address()) || beside.Address() == h.Address() || beside.Address() == a.Address() {
		t.Errorf("a host that was added at %s does not reach %s", beside.Address(), h.Address())
	}
	go func() { _ = made.init.Wait() }() // the machine's init does this in real life
	closeAndCheck(t, h)
}
