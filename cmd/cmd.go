// Package cmd is the command line: it parses, builds a typed configuration and
// calls what does the work. Only main imports it. It imports no part of
// Kubernetes and no component; those that a sub-command runs are handed in, so
// that nothing heavy is set up for a command that does not need it.
package cmd

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
)

// Process is what a command may know of the process that it runs in.
type Process struct {
	// Args and Environ are os.Args and os.Environ().
	Args    []string
	Environ []string
	// Stdin is read by commands that are told to; nil: nothing to read.
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Euid is the effective user id; 0 is root.
	Euid int
	// StatusSocket is where a running server answers; empty: layout's.
	StatusSocket string
}

// Programs are what the heavy sub-commands run. Each is called at most once.
type Programs struct {
	// Server runs a server until it is told to stop.
	Server func(ctx context.Context, cfg config.Server) error
	// Agent runs an agent until it is told to stop.
	Agent func(ctx context.Context, cfg config.Agent) error
	// Snapshots are those of a server that does not run.
	Snapshots func(cfg config.Server) (snapshot.Service, error)
	// Restore replaces the state of a server that does not run.
	Restore func(ctx context.Context, cfg config.Server, wanted snapshot.Restore) (snapshot.Restored, error)
	// Reset makes a server that does not run the only one of its cluster.
	Reset func(ctx context.Context, cfg config.Server, name string, report func(snapshot.Progress)) (snapshot.Restored, error)
	// Kubectl runs kubectl with these arguments and gives its exit code.
	Kubectl func(args []string) int
	// Ctr makes containerd's client.
	Ctr func() *cli.App
}

// Run runs one command and returns the exit code: 0, 1 when the command
// failed, 2 when the command line was wrong, or what the command itself says.
func Run(ctx context.Context, p Process, programs Programs) int {
	a := &application{Process: p, programs: programs}
	name, args, tool := tool(p.Args)
	switch {
	case tool:
		// Before the command line is parsed: what follows is theirs.
		return a.program(name, args)
	case len(args) > 0 && (args[0] == completeCommand || args[0] == completeCommand+"NoDesc"):
		return a.complete(args[1:])
	}
	return a.report(a.app().RunContext(ctx, append([]string{"skiff"}, args...)))
}

// Tool says whether a command line is that of a program inside, kubectl or ctr,
// which parses it by itself.
func Tool(args []string) bool {
	_, _, is := tool(args)
	return is
}

// tool splits a command line into the name of the program that is meant, by
// its first argument or its own name, and what follows that.
func tool(args []string) (name string, rest []string, is bool) {
	if len(args) == 0 {
		return "skiff", nil, false
	}
	if name := filepath.Base(args[0]); name == "kubectl" || name == "ctr" {
		return name, args[1:], true
	}
	if len(args) > 1 && (args[1] == "kubectl" || args[1] == "ctr") {
		return args[1], args[2:], true
	}
	return "skiff", args[1:], false
}

// application is one run of the command line.
type application struct {
	Process
	programs Programs
}

func (a *application) program(name string, args []string) int {
	if name == "kubectl" {
		return a.programs.Kubectl(args)
	}
	ctr := a.programs.Ctr()
	ctr.ExitErrHandler = func(*cli.Context, error) {}
	err := ctr.Run(append([]string{"ctr"}, args...))
	if err == nil {
		return 0
	}
	if message := err.Error(); message != "" {
		fmt.Fprintln(a.Stderr, "ctr:", message)
	}
	if coder, ok := err.(cli.ExitCoder); ok {
		return coder.ExitCode()
	}
	return 1
}

// app is the command tree.
func (a *application) app() *cli.App {
	help := helpFlag()
	app := &cli.App{
		Name:      "skiff",
		Writer:    a.Stdout,
		ErrWriter: a.Stderr,
		// Help, versions, completion and errors are ours: see help.go.
		HideHelp:       true,
		HideVersion:    true,
		ExitErrHandler: func(*cli.Context, error) {},
		Flags:          []cli.Flag{help, &cli.BoolFlag{Name: "version", Usage: "print the versions of Skiff and what is inside"}},
		Commands: []*cli.Command{
			a.serverCommand(), a.agentCommand(), a.statusCommand(), a.configCommand(), a.tokenCommand(), a.snapshotCommand(), a.secretsEncryptCommand(), a.certificateCommand(),
			kubectlCommand(), ctrCommand(), a.completionCommand(), a.versionCommand(), a.helpCommand(),
		},
		Description: rootDescription,
		UsageText:   "skiff COMMAND [FLAGS]",
	}
	app.Action = func(c *cli.Context) error {
		switch {
		case *help.on:
			return a.help(app, nil)
		case c.Bool("version"):
			return a.printVersion("")
		case c.NArg() > 0:
			return unknownCommand("skiff", c.Args().First(), app.Commands)
		default:
			return a.help(app, nil)
		}
	}
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return rootFlagError(err, app.Flags) }
	for _, c := range app.Commands {
		a.finish(app, []string{c.Name}, c)
	}
	return app
}

// finish gives a command and those below it what all commands have.
func (a *application) finish(app *cli.App, path []string, c *cli.Command) {
	c.HideHelp = true
	help := helpFlag()
	c.Flags = append(c.Flags, help)
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		return flagError("skiff "+strings.Join(path, " "), err, c.Flags)
	}
	action := c.Action
	c.Action = func(ctx *cli.Context) error {
		switch {
		case *help.on:
			return a.help(app, path)
		case len(c.Subcommands) > 0 && ctx.NArg() > 0:
			return unknownCommand("skiff "+strings.Join(path, " "), ctx.Args().First(), c.Subcommands)
		case len(c.Subcommands) > 0:
			return a.help(app, path)
		}
		return action(ctx)
	}
	for _, sub := range c.Subcommands {
		a.finish(app, append(slices.Clip(path), sub.Name), sub)
	}
}

func kubectlCommand() *cli.Command {
	return &cli.Command{Name: "kubectl", Category: categoryTools, Usage: "Control the cluster with kubectl",
		UsageText: "skiff kubectl [ARGUMENTS]",
		Action:    func(*cli.Context) error { return nil }, // Run starts it earlier
		Description: `Upstream's kubectl of the same version as the server. Unless KUBECONFIG or
--kubeconfig says otherwise it uses /etc/skiff/kubeconfig.yaml.

Example: see all pods
  sudo skiff kubectl get pods --all-namespaces
Example: use it under its usual name
  sudo ln -s $(command -v skiff) /usr/local/bin/kubectl`}
}

func ctrCommand() *cli.Command {
	return &cli.Command{Name: "ctr", Category: categoryTools, Usage: "Look into the embedded containerd",
		UsageText: "skiff ctr [ARGUMENTS]",
		Action:    func(*cli.Context) error { return nil }, // Run starts it earlier
		Description: `containerd's own client, connected to the embedded containerd and to the
namespace of Kubernetes' containers.

Example: see the images of this node
  sudo skiff ctr images list -q`}
}
