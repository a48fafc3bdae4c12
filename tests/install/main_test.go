// Package install tests install.sh and the scripts that it writes, with the
// built binary on hosts made of namespaces. Such a host has no running systemd
// or OpenRC: what they do with the files is tested by `make test-vm`.
package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

var suite *framework.Suite

func TestMain(m *testing.M) {
	os.Exit(framework.Main(m, func(s *framework.Suite) { suite = s }))
}

// Where things are on the hosts of these tests. The binary under test is bound
// to /usr/local/bin/skiff, which cannot be replaced.
const (
	script = "/root/install.sh"
	bin    = "/usr/local/skiff/bin"
	unit   = "/etc/systemd/system/skiff.service"
	secret = "an-open-secret"
)

// machine is a host with install.sh.
type machine struct{ *framework.Host }

func newMachine(t *testing.T) machine {
	t.Helper()
	h := suite.NewHost(t)
	path, err := filepath.Abs("../../install.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.CopyIn(t.Context(), path, script); err != nil {
		t.Fatal(err)
	}
	// The machine's own, which is seen through an overlay, is not in question.
	h.Exec(t, "rm", "-f", "/usr/bin/kubectl", "/usr/bin/ctr")
	return machine{h}
}

// try runs install.sh with the file of the binary and without a start, unless
// the environment says something else.
func (m machine) try(t *testing.T, env []string, args ...string) framework.Result {
	t.Helper()
	all := []string{"INSTALL_SKIFF_FILE=/usr/local/bin/skiff", "INSTALL_SKIFF_BIN_DIR=" + bin, "INSTALL_SKIFF_SKIP_START=true", "INSTALL_SKIFF_INIT=systemd"}
	return m.Outcome(t, nshost.Cmd{Args: append([]string{"sh", script}, args...), Env: append(all, env...)})
}

func (m machine) install(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := m.try(t, env, args...)
	if r.Code != 0 {
		t.Fatalf("install.sh %s ended with status %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// line is the line of a file that begins so.
func (m machine) line(t *testing.T, path, begin string) string {
	t.Helper()
	for line := range strings.Lines(m.ReadFile(t, path)) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no line of %s begins with %q:\n%s", path, begin, m.ReadFile(t, path))
	return ""
}

// files lists what is in the directories that install.sh and Skiff write to.
func (m machine) files(t *testing.T) string {
	t.Helper()
	return m.Exec(t, "sh", "-c", `for d in /etc/skiff /etc/systemd/system /etc/init.d /usr/local/bin /usr/local/skiff /opt /var/lib /var/log /run /root; do
		[ ! -e $d ] || find $d -mindepth 1 -printf '%p %m %l\n'; done | sort`)
}

func has(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s does not say %q:\n%s", what, want, text)
	}
}
