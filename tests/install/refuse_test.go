package install

import (
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

func TestWhatCannotWorkIsRefusedAndChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.WriteFile(t, "/root/text", "no program")
	tests := []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"an agent without a token", []string{"SKIFF_URL=https://192.0.2.10:6443"}, nil, "SKIFF_URL is set and SKIFF_TOKEN is not"},
		{"a server without TLS", []string{"SKIFF_URL=http://192.0.2.10", "SKIFF_TOKEN=x"}, nil, "an agent joins a server by https"},
		{"a server that is told of a server", []string{"SKIFF_URL=https://192.0.2.10:6443", "SKIFF_TOKEN=x"}, []string{"server"}, "SKIFF_URL is for agents"},
		{"a flag that does not exist", nil, []string{"--no-such-flag"}, "no-such-flag"},
		{"a value that is wrong", nil, []string{"--cluster-cidr=10.42.0.0/99"}, "10.42.0.0/99"},
		{"a variable that is wrong", []string{"SKIFF_CLUSTER_CIDR=nonsense"}, nil, "nonsense"},
		{"another command", nil, []string{"status"}, "status is neither server nor agent"},
		{"a file that is not there", []string{"INSTALL_SKIFF_FILE=/root/nothing"}, nil, "there is no such file"},
		{"a file that is no program", []string{"INSTALL_SKIFF_FILE=/root/text"}, nil, "does not run here"},
		{"a program that is not installed", []string{"INSTALL_SKIFF_SKIP_DOWNLOAD=true"}, nil, "there is no " + bin + "/skiff"},
		{"a start where nothing can start it", []string{"INSTALL_SKIFF_SKIP_START="}, nil, "INSTALL_SKIFF_SKIP_START=true writes the files only"},
		{"an answer that is none", []string{"INSTALL_SKIFF_SKIP_START=maybe"}, nil, "INSTALL_SKIFF_SKIP_START=maybe is neither true nor false"},
		{"a name with a slash", []string{"INSTALL_SKIFF_NAME=a/b"}, nil, "letters, digits, - and _ make a name"},
		{"a variable with a quote", []string{"SKIFF_NODE_NAME=it's"}, nil, "SKIFF_NODE_NAME has a quote"},
		{"an argument of two lines", nil, []string{"--node-label", "a=b\nc=d"}, "line break"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := m.files(t)
			r := m.try(t, tt.env, tt.args...)
			if r.Code == 0 {
				t.Fatalf("it was installed\n%s", r.Stdout)
			}
			has(t, "the refusal", r.Stderr, tt.want)
			if after := m.files(t); after != before {
				t.Errorf("the files were\n%s\nand are\n%s", before, after)
			}
		})
	}

	t.Run("a user who is not root", func(t *testing.T) {
		m.Exec(t, "chmod", "-R", "a+rX", "/root")
		r := m.Outcome(t, nshost.Cmd{Args: []string{"sh", script}, UID: 1000, Env: []string{"INSTALL_SKIFF_FILE=/usr/local/bin/skiff"}})
		if r.Code == 0 {
			t.Error("it was installed")
		}
		has(t, "the refusal", r.Stderr, "by root only: put sudo in front")
	})

	t.Run("a unit of somebody else", func(t *testing.T) {
		m.WriteFile(t, unit, "[Service]\nExecStart=/bin/true\n")
		r := m.try(t, nil)
		if r.Code == 0 {
			t.Error("it was installed")
		}
		has(t, "the refusal", r.Stderr, unit+" is there and was not made by install.sh")
		if got := m.ReadFile(t, unit); got != "[Service]\nExecStart=/bin/true\n" {
			t.Errorf("the unit is now %q", got)
		}
	})
}
