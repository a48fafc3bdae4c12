package install

import (
	"os/exec"
	"strings"
	"testing"
)

func TestAServerIsInstalledAndKeepsItsArguments(t *testing.T) {
	m := newMachine(t)
	odd := `note=50% of "$HOME" isn't \ here`
	m.install(t, []string{"SKIFF_TOKEN=" + secret, "NO_PROXY=10.0.0.0/8"}, "--node-label", "zone=a", "--write-kubeconfig-name", odd)

	want := `ExecStart=` + bin + `/skiff "server" "--node-label" "zone=a" "--write-kubeconfig-name" "note=50%% of \"$$HOME\" isn't \\ here"`
	if got := m.line(t, unit, "ExecStart="); got != want {
		t.Errorf("the unit has %s\nwant %s", got, want)
	}
	for _, want := range []string{"Type=notify", "KillMode=process", "Delegate=yes", "Restart=always", "RestartSec=5s", "LimitNOFILE=1048576", "TasksMax=infinity", "TimeoutStartSec=0", "WatchdogSec=60"} {
		m.line(t, unit, want)
	}
	if got := m.Exec(t, "sh", "-c", "readlink "+bin+"/kubectl; readlink "+bin+"/ctr; test -e /etc/systemd/system/multi-user.target.wants/skiff.service && "+bin+"/kubectl version --client"); !strings.HasPrefix(got, "skiff\nskiff\nClient Version: v1.") {
		t.Errorf("the links, and what they are: %q", got)
	}

	t.Run("and only root can read its token", func(t *testing.T) {
		env := "/etc/skiff/skiff.env"
		if got := m.ReadFile(t, env); got != "NO_PROXY='10.0.0.0/8'\nSKIFF_TOKEN='"+secret+"'\n" {
			t.Errorf("the variables are %q", got)
		}
		if got := m.Exec(t, "stat", "-c", "%a", env); got != "600\n" {
			t.Errorf("their file has mode %s", got)
		}
		if got := m.Exec(t, "sh", "-c", "grep -rl "+secret+" /etc /usr/local/skiff/bin/*.sh"); got != env+"\n" {
			t.Errorf("the token is in %s", got)
		}
	})

	t.Run("and a run without arguments keeps what there is", func(t *testing.T) {
		before := m.ReadFile(t, unit)
		m.install(t, nil)
		if got := m.ReadFile(t, unit); got != before {
			t.Errorf("the unit was\n%s\nand is\n%s", before, got)
		}
		m.install(t, []string{"SKIFF_NODE_NAME=edge", "NO_PROXY="})
		if got := m.ReadFile(t, "/etc/skiff/skiff.env"); got != "SKIFF_TOKEN='"+secret+"'\nSKIFF_NODE_NAME='edge'\n" {
			t.Errorf("the variables are %q", got)
		}
		if got := m.line(t, unit, "ExecStart="); got != want {
			t.Errorf("with a new variable the unit has %s", got)
		}
	})

	t.Run("and a token among the arguments is taken out of them", func(t *testing.T) {
		m.install(t, nil, "server", "--token", "another", "--node-label=zone=b", "--agent-token=third")
		if got := m.line(t, unit, "ExecStart="); got != `ExecStart=`+bin+`/skiff "server" "--node-label=zone=b"` {
			t.Errorf("the unit has %s", got)
		}
		has(t, "the file of variables", m.ReadFile(t, "/etc/skiff/skiff.env"), "SKIFF_AGENT_TOKEN='third'\nSKIFF_TOKEN='another'\n")
	})

	t.Run("and the word server alone takes them away", func(t *testing.T) {
		m.install(t, nil, "server")
		if got := m.line(t, unit, "ExecStart="); got != `ExecStart=`+bin+`/skiff "server"` {
			t.Errorf("the unit has %s", got)
		}
	})

	t.Run("and the scripts for its end are sound", func(t *testing.T) {
		for _, script := range []string{"skiff-killall.sh", "skiff-uninstall.sh"} {
			m.Exec(t, "sh", "-n", bin+"/"+script)
			if _, err := exec.LookPath("shellcheck"); err == nil {
				m.Exec(t, "shellcheck", bin+"/"+script)
			}
		}
	})
}

func TestAnAgentIsInstalledWhereAServerIsNamed(t *testing.T) {
	m := newMachine(t)
	env := []string{"SKIFF_URL=https://192.0.2.10:6443", "SKIFF_TOKEN=" + secret}
	m.install(t, env, "--node-label=zone=a")
	const unit = "/etc/systemd/system/skiff-agent.service"
	if got := m.line(t, unit, "ExecStart="); got != `ExecStart=`+bin+`/skiff "agent" "--node-label=zone=a"` {
		t.Errorf("the unit has %s", got)
	}
	if got := m.ReadFile(t, "/etc/skiff/skiff-agent.env"); got != "SKIFF_TOKEN='"+secret+"'\nSKIFF_URL='https://192.0.2.10:6443'\n" {
		t.Errorf("the variables are %q", got)
	}
	before := m.ReadFile(t, unit)
	m.install(t, nil)
	if got := m.ReadFile(t, unit); got != before {
		t.Errorf("after a second run, the unit was\n%s\nand is\n%s", before, got)
	}
	r := m.try(t, nil, "server")
	if r.Code == 0 {
		t.Error("an agent was made a server")
	}
	has(t, "the refusal", r.Stderr, "is installed as agent")
	m.Exec(t, bin+"/skiff-uninstall.sh")
	m.install(t, nil, "server")
}

func TestOpenRCGetsAScript(t *testing.T) {
	m := newMachine(t)
	args := []string{"--node-label", "zone=a", "--write-kubeconfig-name", "a \"b\" $HOME `c` isn't \\ d"}
	m.install(t, []string{"INSTALL_SKIFF_INIT=openrc", "INSTALL_SKIFF_SKIP_ENABLE=true", "SKIFF_TOKEN=" + secret}, args...)
	// OpenRC evaluates the arguments once, as this does.
	got := m.Exec(t, "sh", "-ec", `. /etc/init.d/skiff; eval "set -- $command_args"; echo $command; printf '%s\n' "$@"`)
	if want := bin + "/skiff\nserver\n" + strings.Join(args, "\n") + "\n"; got != want {
		t.Errorf("it runs %q, want %q", got, want)
	}
	has(t, "the script", m.ReadFile(t, "/etc/init.d/skiff"), "supervisor=supervise-daemon")
	if got := m.Exec(t, "stat", "-c", "%a", "/etc/init.d/skiff", "/etc/skiff/skiff.env"); got != "755\n600\n" {
		t.Errorf("the modes are %q", got)
	}
}

func TestWhatIsThereStays(t *testing.T) {
	m := newMachine(t)
	m.WriteFile(t, bin+"/kubectl", "somebody's own")
	m.Exec(t, "chmod", "0755", bin+"/kubectl")
	out := m.install(t, []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin"})
	has(t, "install.sh", out, bin+"/kubectl is there and stays")
	if got := m.ReadFile(t, bin+"/kubectl"); got != "somebody's own" {
		t.Errorf("kubectl is now %q", got)
	}
	m.install(t, []string{"INSTALL_SKIFF_SYMLINK=force"})
	if got := m.Exec(t, "readlink", bin+"/kubectl"); got != "skiff\n" {
		t.Errorf("kubectl is %q", got)
	}
}
