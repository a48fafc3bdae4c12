package cmd

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func (a *application) agentCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name: "agent", Category: categoryCluster,
		Usage:     "Join this machine to a server and run pods on it",
		UsageText: "skiff agent --server URL --token-file FILE [FLAGS]",
		Description: `Joins the cluster of a server and runs pods, until it gets SIGTERM or SIGINT. It
must be run as root. Stopping it leaves pods running; the next start finds them
again. A machine that has joined needs neither token nor server to start again:
its pods come up, and it is part of the cluster as soon as a server answers.

The token is in /var/lib/skiff/server/node-token of a server, or is made there
by skiff token create. It pins the cluster's CA, so no other server is trusted.

Every flag may also be a line in /etc/skiff/config.yaml or in a file of
/etc/skiff/config.yaml.d, under the flag's name without dashes, or an
environment variable: --server is SKIFF_URL or SKIFF_SERVER. Flags beat
variables, variables beat files. Flags whose value is a list may be repeated.

Example: join with the server's token
  sudo skiff agent --server https://192.0.2.10:6443 --token-file ./token
Example: choose the address, give the node labels
  sudo skiff agent --server https://192.0.2.10:6443 --token-file ./token \
    --node-ip 192.0.2.11 --node-label disk=ssd --node-label zone=cellar
Example: see what is wrong with a configuration before using it
  skiff config check --agent --config new.yaml`,
		Flags: settingFlags(config.ForAgent, given),
		Action: a.daemon("skiff agent", config.ForAgent, given, func(ctx context.Context, e *config.Effective) error {
			return a.programs.Agent(ctx, e.Agent)
		}),
	}
}
