package kubectl

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUseKubeconfig(t *testing.T) {
	const admin = "/etc/skiff/kubeconfig.yaml"
	for name, c := range map[string]struct {
		env      string
		args     []string
		adminErr error // of reading the administrator's kubeconfig
		own      bool  // there is a ~/.kube/config
		want     string
		hint     string
	}{
		"the administrator's is used":                   {want: admin},
		"it is used before the user's own":              {own: true, want: admin},
		"KUBECONFIG beats it":                           {env: "/mine", want: "/mine"},
		"--kubeconfig beats it":                         {args: []string{"get", "--kubeconfig", "/x"}},
		"--kubeconfig= beats it":                        {args: []string{"--kubeconfig=/x", "get"}},
		"a --kubeconfig inside a container does not":    {args: []string{"exec", "p", "--", "tool", "--kubeconfig=/x"}, want: admin},
		"the user's own stands in where it is for root": {adminErr: fs.ErrPermission, own: true},
		"who may not read it is told how to":            {adminErr: fs.ErrPermission, want: admin, hint: "only root may read " + admin + ": use sudo"},
		"who has no server is told how to start one":    {adminErr: fs.ErrNotExist, hint: "start the server with sudo skiff server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", c.env)
			t.Setenv("HOME", "/home/jo")
			hint := useKubeconfig(c.args, admin, func(path string) error {
				switch {
				case path == admin:
					return c.adminErr
				case path == "/home/jo/.kube/config" && c.own:
					return nil
				default:
					return fs.ErrNotExist
				}
			})
			if got := os.Getenv("KUBECONFIG"); got != c.want {
				t.Errorf("KUBECONFIG is %q, want %q", got, c.want)
			}
			if !strings.Contains(hint, c.hint) || (c.hint == "") != (hint == "") {
				t.Errorf("hint is %q, want %q", hint, c.hint)
			}
		})
	}
}

// kubectl runs Main away from this machine's kubeconfigs.
func kubectl(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	oldArgs, oldErr := os.Args, os.Stderr
	os.Stderr = file
	defer func() { os.Args, os.Stderr = oldArgs, oldErr }()
	code = Main(args)
	data, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(data)
}

func TestFailuresOfKubectlComeBackAsExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a command that needs no server works":    {[]string{"config", "view"}, 0, ""},
		"an unknown command fails":                {[]string{"gett"}, 1, `unknown command "gett"`},
		"a failure inside a command fails":        {[]string{"apply", "-f", "/nonexistent"}, 1, "/nonexistent"},
		"differences that cannot be found are 2+": {[]string{"diff", "-f", "/nonexistent"}, 2, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := kubectl(t, c.args...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("code %d, want %d; standard error:\n%s", code, c.code, stderr)
			}
		})
	}
}
