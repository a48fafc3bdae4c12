package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/status"
)

var update = flag.Bool("update", false, "rewrite golden files")

// result is what a user sees of one command.
type result struct {
	code           int
	stdout, stderr string
}

// runAs runs the command line with programs that only note that they ran.
func runAs(t *testing.T, euid int, environ []string, args ...string) (result, *ran) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	var did ran
	code := Run(t.Context(), Process{Args: args, Environ: environ, Stdout: &stdout, Stderr: &stderr, Euid: euid}, did.programs(&stdout))
	return result{code, stdout.String(), stderr.String()}, &did
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	r, _ := runAs(t, 0, nil, args...)
	return r
}

type ran struct {
	server    *config.Server
	serverErr error
	agent     *config.Agent
	kubectl   []string
	ctr       []string
}

func (r *ran) programs(stdout *bytes.Buffer) Programs {
	return Programs{
		Server: func(_ context.Context, cfg config.Server) error {
			r.server = &cfg
			return r.serverErr
		},
		Agent: func(_ context.Context, cfg config.Agent) error {
			r.agent = &cfg
			return nil
		},
		Kubectl: func(args []string) int {
			r.kubectl = append([]string{"kubectl"}, args...)
			return 7
		},
		Ctr: func() *cli.App {
			return &cli.App{Name: "ctr", Writer: stdout,
				Flags: []cli.Flag{&cli.StringFlag{Name: "address", Aliases: []string{"a"}, Usage: "where"}},
				Commands: []*cli.Command{{Name: "images", Usage: "manage images", Action: func(c *cli.Context) error {
					r.ctr = c.Args().Slice()
					if c.Args().First() == "exit" {
						return cli.Exit("gone", 9)
					}
					return nil
				}}},
			}
		},
	}
}

// emptyConfig is --config with a file that says nothing, so that no test
// depends on this machine's /etc.
func emptyConfig(t *testing.T) string { return configFile(t, "") }

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--config=" + path
}

func TestProgramsAreFoundByNameAndByCommand(t *testing.T) {
	for name, c := range map[string]struct{ args, want []string }{
		"as a command":                  {[]string{"skiff", "kubectl", "get", "pods", "--help"}, []string{"kubectl", "get", "pods", "--help"}},
		"as the name of the program":    {[]string{"/usr/local/bin/kubectl", "get", "-h"}, []string{"kubectl", "get", "-h"}},
		"with arguments of our own":     {[]string{"kubectl", "server"}, []string{"kubectl", "server"}},
		"without any argument at all":   {[]string{"kubectl"}, []string{"kubectl"}},
		"when completing what comes on": {[]string{"skiff", "__complete", "kubectl", "get", ""}, []string{"kubectl", "__complete", "get", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			r, did := runAs(t, 0, nil, c.args...)
			if !slices.Equal(did.kubectl, c.want) || r.code != 7 {
				t.Errorf("ran %q with code %d, want %q and kubectl's own code 7", did.kubectl, r.code, c.want)
			}
		})
	}
}

func TestCtrRunsAndFailsUnderItsOwnName(t *testing.T) {
	if _, did := runAs(t, 0, nil, "skiff", "ctr", "-a", "/sock", "images", "ls"); !slices.Equal(did.ctr, []string{"ls"}) {
		t.Errorf("ctr ran with %q", did.ctr)
	}
	if r, _ := runAs(t, 0, nil, "ctr", "images", "exit"); r.code != 9 || r.stderr != "ctr: gone\n" {
		t.Errorf("got %+v", r)
	}
}

func TestServerGetsItsConfiguration(t *testing.T) {
	path := configFile(t, "https-listen-port: 7443\nnode-name: one\n")
	r, did := runAs(t, 0, []string{"SKIFF_NODE_NAME=two", "SKIFF_NODE_NAMES=x"}, "skiff", "server", path,
		"-v", "3", "--debug", "--selinux=false", "--tls-san", "a", "--tls-san=b,c", "--kubelet-arg", "x=1,2", "-d", "/data")
	if r.code != 0 || did.server == nil {
		t.Fatalf("got %+v", r)
	}
	s := did.server
	if s.Listener.Port != 7443 || s.Node.Name != "two" || s.Logging.Verbosity != 3 || !s.Logging.Debug || s.Layout.Data != "/data" ||
		!slices.Equal(s.Listener.TLSSANs, []string{"a", "b", "c"}) || !slices.Equal(s.Node.Kubelet.Extra, []string{"x=1,2"}) {
		t.Errorf("got %+v", s)
	}
	if want := "skiff: warning: the environment variable SKIFF_NODE_NAMES"; !strings.HasPrefix(r.stderr, want) {
		t.Errorf("standard error has %q, want %q", r.stderr, want)
	}
}

func TestAgentGetsItsConfiguration(t *testing.T) {
	r, did := runAs(t, 0, []string{"SKIFF_URL=https://192.0.2.10", "SKIFF_TOKEN=secret"}, "skiff", "agent", configFile(t, "node-name: one\n"), "--node-label", "a=b")
	if r.code != 0 || did.agent == nil {
		t.Fatalf("got %+v", r)
	}
	a := did.agent
	if a.Join.Server != "https://192.0.2.10:6443" || a.Join.Token.Reveal() != "secret" || a.Node.Name != "one" || !slices.Equal(a.Node.Labels, []string{"a=b"}) {
		t.Errorf("got %+v", a)
	}
}

func TestServerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		euid int
		args []string
		code int
		want string // standard error
	}{
		"to run as somebody": {1000, []string{"--cluster-cidr=x"}, 1,
			"skiff: skiff server must run as root: it sets up containers, networks and mounts; use sudo skiff server\n"},
		"every problem of its configuration at once": {0, []string{"--v=x", "--server=http://a"}, 1,
			"skiff: --v: \"x\" is not a whole number; write digits only\nskiff: --server: \"http://a\" does not begin with https://, and servers speak nothing else; write it like https://192.0.2.10:6443\n"},
		"a misspelt flag": {0, []string{"--cluster-cird", "x"}, 2,
			"skiff: \"skiff server\" has no flag --cluster-cird; did you mean --cluster-cidr?\nskiff: see skiff server --help\n"},
		"a flag without its value": {0, []string{"--node-name"}, 2,
			"skiff: --node-name needs a value\nskiff: see skiff server --help\n"},
		"words that are no flags": {0, []string{"start"}, 2,
			"skiff: \"skiff server\" takes no arguments, but was given \"start\"; flags begin with --\nskiff: see skiff server --help\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r, did := runAs(t, c.euid, nil, append([]string{"skiff", "server", emptyConfig(t)}, c.args...)...)
			if did.server != nil {
				t.Error("the server was started")
			}
			if r.code != c.code || r.stderr != c.want || r.stdout != "" {
				t.Errorf("got code %d\n%s%s\nwant code %d\n%s", r.code, r.stdout, r.stderr, c.code, c.want)
			}
		})
	}
}

func TestServersErrorIsPrintedLineByLine(t *testing.T) {
	var stdout, stderr bytes.Buffer
	did := ran{serverErr: errors.New("port 6443 is in use\nfree it")}
	code := Run(t.Context(), Process{Args: []string{"skiff", "server", emptyConfig(t)}, Stdout: &stdout, Stderr: &stderr}, did.programs(&stdout))
	if code != 1 || stderr.String() != "skiff: port 6443 is in use\nskiff: free it\n" {
		t.Errorf("code %d, standard error %q", code, stderr.String())
	}
}

func TestMisspeltCommandsGetASuggestion(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a command":                   {[]string{"sever"}, `there is no command "skiff sever"; did you mean "skiff server"?`},
		"a command of a command":      {[]string{"config", "chek"}, `there is no command "skiff config chek"; did you mean "skiff config check"?`},
		"help for a command":          {[]string{"help", "versoin"}, `there is no command "skiff versoin"; did you mean "skiff version"?`},
		"nonsense":                    {[]string{"xyzzy"}, "there is no command \"skiff xyzzy\"\n"},
		"a server's flag too early":   {[]string{"--data-dir", "/x", "server"}, "--data-dir is a flag of the server; write it after the command: skiff server --data-dir"},
		"a format that is none":       {[]string{"version", "-o", "xml"}, "-o xml is not a format; choose one of json, yaml"},
		"a shell that is none":        {[]string{"completion", "csh"}, `there is no completion for "csh"; choose one of bash, zsh, fish`},
		"completion for no shell":     {[]string{"completion"}, "name one shell: bash, zsh, fish"},
		"a flag that is not there":    {[]string{"version", "--outptu=json"}, `"skiff version" has no flag --outptu; did you mean --output?`},
		"an argument that is no flag": {[]string{"version", "json"}, `"skiff version" takes no arguments`},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, append([]string{"skiff"}, c.args...)...)
			if r.code != 2 || !strings.HasPrefix(r.stderr, "skiff: "+c.want) {
				t.Errorf("got code %d and %q, want %q", r.code, r.stderr, c.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for name, args := range map[string][]string{
		"skiff": {"--help"}, "server": {"server", "--help"}, "agent": {"agent", "--help"}, "config": {"config"}, "config-show": {"config", "show", "-h"},
		"version": {"help", "version"}, "status": {"status", "-h"}, "completion": {"completion", "--help"}, "kubectl": {"help", "kubectl"},
		"token": {"token"}, "token-create": {"token", "create", "-h"}, "token-list": {"token", "list", "-h"}, "token-delete": {"token", "delete", "-h"},
		"token-generate": {"token", "generate", "-h"}, "token-rotate": {"token", "rotate", "-h"},
		"secrets-encrypt": {"secrets-encrypt"}, "certificate": {"certificate"}, "certificate-check": {"certificate", "check", "-h"}, "certificate-rotate": {"certificate", "rotate", "-h"}, "certificate-rotate-ca": {"certificate", "rotate-ca", "-h"}, "secrets-encrypt-status": {"secrets-encrypt", "status", "-h"}, "secrets-encrypt-rotate-keys": {"secrets-encrypt", "rotate-keys", "-h"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, append([]string{"skiff"}, args...)...)
			if r.code != 0 || r.stderr != "" {
				t.Fatalf("got %+v", r)
			}
			for line := range strings.Lines(r.stdout) {
				if len(line) > width+1 {
					t.Errorf("wider than %d columns: %s", width, line)
				}
			}
			golden(t, filepath.Join("testdata", "help-"+name+".txt"), r.stdout)
		})
	}
	if bare := run(t, "skiff"); bare.stdout != run(t, "skiff", "--help").stdout {
		t.Error("skiff alone does not show the help")
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd -update rewrites it); got\n%s", path, got)
	}
}

func TestConfigCheck(t *testing.T) {
	if r := run(t, "skiff", "config", "check", configFile(t, "debug: true")); r.code != 0 || !strings.HasPrefix(r.stdout, "The configuration is valid (/") {
		t.Errorf("got %+v", r)
	}
	if r := run(t, "skiff", "config", "check", configFile(t, "debugg: true\nv: x")); r.code != 1 || r.stdout != "" ||
		!strings.Contains(r.stderr, "did you mean debug?\nskiff: ") || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("got %+v", r)
	}
}

func TestConfigShow(t *testing.T) {
	path := configFile(t, "debug: true")
	file := strings.TrimPrefix(path, "--config=")
	r := run(t, "skiff", "config", "show", "--changed", path, "--node-label=a=b")
	want := "# Configuration and logging\ndebug: true # " + file + ":1\n# Node\nnode-label: # --node-label\n  - a=b\n"
	if r.code != 0 || r.stdout != want {
		t.Errorf("got code %d\n%s\nwant\n%s", r.code, r.stdout, want)
	}
	r = run(t, "skiff", "config", "show", "-o", "json", path)
	var shown map[string]struct{ Value any }
	if err := json.Unmarshal([]byte(r.stdout), &shown); err != nil || shown["debug"].Value != true {
		t.Errorf("got %v, %s", err, r.stdout)
	}
}

// serveStatus answers like a server.
func serveStatus(t *testing.T, report status.Report) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "status.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(report); err != nil {
			t.Error(err)
		}
	}))
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return socket
}

func TestStatus(t *testing.T) {
	ready := status.Component{Name: "apiserver", State: "ready"}
	waiting := status.Component{Name: "kubelet", State: "waiting", WaitingOn: []string{"containerd"}}
	up := serveStatus(t, status.Report{Version: "1", Ready: true, Components: []status.Component{ready}})
	half := serveStatus(t, status.Report{Version: "1", Components: []status.Component{ready, waiting}})
	for name, c := range map[string]struct {
		socket string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"everything is ready":     {up, nil, 0, "apiserver", ""},
		"scripts get JSON":        {up, []string{"-o", "json"}, 0, `"ready": true`, ""},
		"something is not ready":  {half, nil, 2, "waits for containerd", "skiff: skiff is not ready: kubelet waits for containerd"},
		"nothing runs":            {"/nonexistent/status.sock", nil, 1, "", "skiff: skiff is not running"},
		"a format that is none":   {up, []string{"-o", "xml"}, 2, "", "skiff: -o xml is not a format; choose one of table, json, yaml"},
		"words where none belong": {up, []string{"json"}, 2, "", `skiff: "skiff status" takes no arguments`},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), Process{Args: append([]string{"skiff", "status"}, c.args...), Stdout: &stdout, Stderr: &stderr, StatusSocket: c.socket}, Programs{})
			if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.HasPrefix(stderr.String(), c.stderr) {
				t.Errorf("got code %d\n%s%s\nwant code %d, %q, %q", code, &stdout, &stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	text := run(t, "skiff", "--version").stdout
	for _, want := range []string{"skiff ", "kubernetes v1.36", "go "} {
		if !strings.Contains(text, want) {
			t.Errorf("--version lacks %q: %s", want, text)
		}
	}
	if again := run(t, "skiff", "version").stdout; again != text {
		t.Errorf("skiff version says %q", again)
	}
	var v versions
	if err := json.Unmarshal([]byte(run(t, "skiff", "version", "-o", "json").stdout), &v); err != nil || v.Kubernetes == "" || v.Go == "" {
		t.Errorf("json: %v, %+v", err, v)
	}
	if y := run(t, "skiff", "version", "--output=yaml").stdout; !strings.Contains(y, "kubernetes: "+v.Kubernetes) {
		t.Errorf("yaml: %s", y)
	}
}

func TestCompletion(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		want  []string // the words offered, and the directive
	}{
		"commands":                        {[]string{"ser"}, []string{"server", ":4"}},
		"commands of a command":           {[]string{"config", ""}, []string{"check", "show", ":4"}},
		"flags":                           {[]string{"server", "--write-kubeconfig-"}, []string{"--write-kubeconfig-mode", "--write-kubeconfig-group", "--write-kubeconfig-name", ":4"}},
		"not k3s' other flags":            {[]string{"server", "--etcd-s3"}, []string{":4"}},
		"flags after a flag and value":    {[]string{"server", "-d", "/data", "--flannel-b"}, []string{"--flannel-backend", ":4"}},
		"choices":                         {[]string{"server", "--flannel-backend", "w"}, []string{"wireguard-native", ":4"}},
		"choices after an equals sign":    {[]string{"server", "--flannel-backend=h"}, []string{"host-gw", ":4"}},
		"file names":                      {[]string{"server", "--config", ""}, []string{":0"}},
		"formats":                         {[]string{"version", "-o", ""}, []string{"json", "yaml", ":4"}},
		"shells":                          {[]string{"completion", "z"}, []string{"zsh", ":4"}},
		"flags of skiff itself":           {[]string{"--v"}, []string{"--version", ":4"}},
		"commands of ctr":                 {[]string{"ctr", "-a", "x", "im"}, []string{"images", ":4"}},
		"nothing after a switch":          {[]string{"server", "--debug", ""}, []string{":4"}},
		"all commands when there is none": {nil, []string{"server", "agent", "status", "config", "token", "snapshot", "secrets-encrypt", "certificate", "kubectl", "ctr", "completion", "version", "help", ":4"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, append([]string{"skiff", "__complete"}, c.words...)...)
			var got []string
			for line := range strings.Lines(r.stdout) {
				word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				got = append(got, word)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("offered %q, want %q", got, c.want)
			}
		})
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell+" reads its script", func(t *testing.T) {
			script := run(t, "skiff", "completion", shell).stdout
			if !strings.Contains(script, "__complete") {
				t.Fatalf("no completion script: %.200s", script)
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("%s is not on this machine, so it did not read the script", shell)
				return
			}
			c := exec.CommandContext(t.Context(), path, "-n")
			c.Stdin = strings.NewReader(script)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
