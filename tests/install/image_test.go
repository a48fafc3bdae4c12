package install

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// image is what the last stage of the Dockerfile says. There is no Docker on
// the machines of these tests: the root file system is made as it says.
type image struct {
	program    string
	dirs       []string
	env        []string
	entrypoint []string
	command    []string
}

func readDockerfile(t *testing.T) image {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var i image
	from := ""
	for line := range strings.Lines(string(text)) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "FROM":
			i, from = image{}, rest
		case "COPY":
			i.program = rest[strings.LastIndex(rest, " ")+1:]
		case "ENV":
			i.env = append(i.env, rest)
		case "WORKDIR", "VOLUME":
			i.dirs = append(i.dirs, strings.Fields(rest)...)
		case "ENTRYPOINT", "CMD":
			to := map[string]*[]string{"ENTRYPOINT": &i.entrypoint, "CMD": &i.command}[verb]
			if err := json.Unmarshal([]byte(rest), to); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	if !strings.HasPrefix(from, "scratch ") {
		t.Fatalf("the last image is made from %s", from)
	}
	return i
}

// What a container runtime adds to an image: /proc, /sys, /dev, and the files
// in /etc that say who it is. The host of namespaces has them already.
const addRuntimes = `cd "$0"; mkdir -p proc sys dev etc
for d in proc sys dev; do mount --rbind /$d $d; done
cp /etc/hosts /etc/hostname /etc/resolv.conf etc`

func TestTheImageRunsAControlPlane(t *testing.T) {
	m := newMachine(t)
	i := readDockerfile(t)
	const root = "/srv/image"
	for _, d := range append(i.dirs, filepath.Dir(i.program)) {
		m.Exec(t, "mkdir", "-p", root+d)
	}
	m.Exec(t, "cp", "/usr/local/bin/skiff", root+i.program)
	m.Exec(t, "sh", "-ec", addRuntimes, root)
	inside := func(args ...string) []string {
		return append(append([]string{"env", "-i"}, i.env...), append([]string{"/usr/sbin/chroot", root}, args...)...)
	}
	has(t, "skiff version", m.Exec(t, inside(append(i.entrypoint, "version")...)...), "kubernetes v1.")

	// What a whole node would need besides, as docs/install.md tells.
	r := m.Outcome(t, nshost.Cmd{Args: inside(append(i.entrypoint, "server")...)})
	if r.Code == 0 {
		t.Error("a node runs without a packet filter")
	}
	for _, want := range []string{"3 things are missing", "no program mount", "no program umount", "no packet filter"} {
		has(t, "skiff server", r.Stderr, want)
	}

	log, err := os.Create(filepath.Join(m.Directory(), "image.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := m.Start(context.Background(), nshost.Cmd{Args: inside(append(i.entrypoint, i.command...)...), Stdout: log, Stderr: log})
	if err != nil {
		t.Fatal(err)
	}
	framework.Eventually(t, framework.ReadyTimeout, "everything in it is ready", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := m.Try(ctx, nil, inside(append(i.entrypoint, "status")...)...)
		return err
	})
	if got := m.Exec(t, inside(append(i.entrypoint, "kubectl", "get", "--raw", "/readyz")...)...); got != "ok" {
		t.Errorf("the API server says %q", got)
	}
	if err := p.Signal(15); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); exit.Code != 0 || err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Errorf("it ended with %+v, %v\n%s", exit, err, text)
	}
}
