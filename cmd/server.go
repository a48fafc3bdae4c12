package cmd

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// Categories of commands, in the order of the alphabet, in which they are
// shown.
const (
	categoryCluster = "Cluster"
	categoryTools   = "Tools"
)

func (a *application) serverCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name: "server", Category: categoryCluster,
		Usage:     "Run a Kubernetes server on this machine",
		UsageText: "skiff server [FLAGS]",
		Description: `Runs the control plane, and pods too unless --disable-agent is given, until it
gets SIGTERM or SIGINT. It must be run as root. Stopping it leaves pods running;
the next start finds them again.

Every flag may also be a line in /etc/skiff/config.yaml or in a file of
/etc/skiff/config.yaml.d, under the flag's name without dashes, or an
environment variable: --node-name is SKIFF_NODE_NAME. Flags beat variables,
variables beat files. Flags whose value is a list may be repeated.

Example: a cluster of this machine alone
  sudo skiff server
Example: reach it from other machines under a name, let a group use it
  sudo skiff server --tls-san k8s.example.com \
    --write-kubeconfig-mode 0640 --write-kubeconfig-group adm
Example: see what is wrong with a configuration before using it
  skiff config check --config new.yaml
Example: pods with IPv4 and IPv6
  sudo skiff server --cluster-cidr 10.42.0.0/16,fd00:42::/56 \
    --service-cidr 10.43.0.0/16,fd00:43::/112`,
		Flags: settingFlags(config.ForServer, given),
		Action: a.daemon("skiff server", config.ForServer, given, func(ctx context.Context, e *config.Effective) error {
			if e.Server.Reset.Enable {
				return a.reset(ctx, e.Server)
			}
			return a.programs.Server(ctx, e.Server)
		}),
	}
}

// daemon is the action of a command that runs until it is told to stop.
func (a *application) daemon(name string, role config.Role, given config.Given, run func(context.Context, *config.Effective) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() > 0 {
			return noArguments(name, c.Args().First())
		}
		if a.Euid != 0 {
			return fmt.Errorf("%s must run as root: it sets up containers, networks and mounts; use sudo %[1]s", name)
		}
		effective, err := a.load(role, given)
		if err != nil {
			return err
		}
		for _, warning := range effective.Warnings {
			fmt.Fprintln(a.Stderr, "skiff: warning:", warning)
		}
		return run(c.Context, effective)
	}
}

func (a *application) load(role config.Role, given config.Given) (*config.Effective, error) {
	return config.Load(config.Input{Role: role, Flags: given, Environ: a.Environ})
}

// reset makes the server the only one of its cluster, and ends.
func (a *application) reset(ctx context.Context, cfg config.Server) error {
	done, err := a.programs.Reset(ctx, cfg, cfg.Reset.Snapshot, a.progress("resetting"))
	if err != nil {
		return err
	}
	if err := a.writeRestored("", cfg, done); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Stdout, "This server is the only one of its cluster now: start it without --cluster-reset. On each other server, remove server/db/etcd below the data directory, and let it join again with --server and --token.")
	return err
}
