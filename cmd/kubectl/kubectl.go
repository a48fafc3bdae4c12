// Package kubectl is upstream's kubectl as `skiff kubectl`. Only main imports
// it.
package kubectl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	// Credential plugins for users' own kubeconfigs, as in upstream's kubectl.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	_ "github.com/skiff-k8s/skiff/cmd/kubectl/translate"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// exit is how kubectl's own exits reach Main.
type exit struct {
	message string
	code    int
}

// Main runs kubectl with these arguments and gives its exit code. The process
// is kubectl from then on: its arguments and its environment are what the
// libraries of kubectl expect, and no signal is handled but by them.
func Main(args []string) (code int) {
	os.Args = append([]string{"kubectl"}, args...)
	hint := useKubeconfig(args, layout.Default().Kubeconfig(), readable)

	cmdutil.BehaviorOnFatal(func(message string, code int) { panic(exit{message, code}) })
	defer cmdutil.DefaultBehaviorOnFatal()
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = e.code
			fail(e.message, hint)
		default:
			panic(e)
		}
	}()

	// As upstream's main does: building the commands may log already.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	cmdutil.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
	return 0
}

// fail prints kubectl's last words, and the hint when they are about the
// kubeconfig: without one, kubectl asks localhost:8080.
func fail(message, hint string) {
	if message == "" {
		return
	}
	fmt.Fprintln(os.Stderr, strings.TrimSuffix(message, "\n"))
	if hint != "" && (strings.Contains(message, "localhost:8080") || strings.Contains(message, "error loading config file")) {
		fmt.Fprintln(os.Stderr, hint)
	}
}

// useKubeconfig makes the administrator's kubeconfig the one to use, unless
// the user named another. When that cannot work it returns a hint, which is
// shown if kubectl fails for it: many of its commands need no server.
func useKubeconfig(args []string, admin string, readable func(path string) error) (hint string) {
	if os.Getenv("KUBECONFIG") != "" || namesKubeconfig(args) {
		return ""
	}
	err := readable(admin)
	if err == nil {
		_ = os.Setenv("KUBECONFIG", admin) // fails for malformed names only
		return ""
	}
	if home, homeErr := os.UserHomeDir(); homeErr == nil && readable(filepath.Join(home, ".kube", "config")) == nil {
		return "" // kubectl finds it itself
	}
	if errors.Is(err, fs.ErrPermission) {
		_ = os.Setenv("KUBECONFIG", admin)
		return fmt.Sprintf("skiff: only root may read %s: use sudo, or start the server with "+
			"--write-kubeconfig-mode 0640 --write-kubeconfig-group GROUP", admin)
	}
	return fmt.Sprintf("skiff: %v: start the server with sudo skiff server, "+
		"or name another kubeconfig with KUBECONFIG or --kubeconfig", err)
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func namesKubeconfig(args []string) bool {
	for _, arg := range args {
		switch {
		case arg == "--":
			return false // what follows runs in a container
		case arg == "--kubeconfig", strings.HasPrefix(arg, "--kubeconfig="):
			return true
		}
	}
	return false
}
