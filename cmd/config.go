package cmd

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func (a *application) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Category: categoryCluster,
		Usage:     "Check or show the configuration of the server or agent",
		UsageText: "skiff config COMMAND [FLAGS]",
		Description: `Both commands take the flags of skiff server, or with --agent those of skiff
agent, and read the same files and variables.

Example: see every problem of the configuration at once
  skiff config check
Example: see what differs from the defaults, and where that was written
  skiff config show --changed`,
		Subcommands: []*cli.Command{a.configCheckCommand(), a.configShowCommand()},
	}
}

func (a *application) configCheckCommand() *cli.Command {
	given, agent := config.Given{}, agentFlag()
	return &cli.Command{
		Name:      "check",
		Usage:     "Say whether a server or agent would start with this configuration",
		UsageText: "skiff config check [--agent] [SERVER OR AGENT FLAGS]",
		Description: `Lists every problem with its place and the way to mend it, and exits with 1 when
there is any. Nothing is changed.

Example: check a file before it is put into place
  skiff config check --config ./config.yaml`,
		Flags: append([]cli.Flag{agent}, settingFlags(config.ForServer|config.ForAgent, given)...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff config check", c.Args().First())
			}
			effective, err := a.load(role(c, agent), given)
			if err != nil {
				return err
			}
			for _, warning := range effective.Warnings {
				fmt.Fprintln(a.Stderr, "skiff: warning:", warning)
			}
			from := "no configuration file"
			if len(effective.Files) > 0 {
				from = strings.Join(effective.Files, ", ")
			}
			_, err = fmt.Fprintf(a.Stdout, "The configuration is valid (%s).\n", from)
			return err
		},
	}
}

func (a *application) configShowCommand() *cli.Command {
	given, agent := config.Given{}, agentFlag()
	changed := &cli.BoolFlag{Name: "changed", Usage: "leave out what has its default"}
	return &cli.Command{
		Name:      "show",
		Usage:     "Show every setting, its value and where that was written",
		UsageText: "skiff config show [-o yaml|json] [--changed] [--agent] [FLAGS]",
		Description: `Prints a configuration file that has the effect of all files, variables and
flags together. The comment after a value says where it comes from. Secrets are
not shown.

Example: see what differs from the defaults
  skiff config show --changed
Example: one setting, for a script
  skiff config show -o json | jq -r '."data-dir".value'`,
		Flags: append([]cli.Flag{outputFlag("yaml, json"), changed, agent}, settingFlags(config.ForServer|config.ForAgent, given, "o")...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff config show", c.Args().First())
			}
			effective, err := a.load(role(c, agent), given)
			if err != nil {
				return err
			}
			var settings []config.Setting
			for _, s := range effective.Settings {
				if s.Changed() || !c.Bool("changed") {
					settings = append(settings, s)
				}
			}
			switch format := c.String("output"); format {
			case "", "yaml":
				return config.WriteYAML(a.Stdout, settings)
			case "json":
				return config.WriteJSON(a.Stdout, settings)
			default:
				return unknownFormat("skiff config show", format, "yaml, json")
			}
		},
	}
}

func agentFlag() *cli.BoolFlag {
	return &cli.BoolFlag{Name: "agent", Usage: "the configuration of skiff agent instead of skiff server"}
}

func role(c *cli.Context, agent *cli.BoolFlag) config.Role {
	if c.Bool(agent.Name) {
		return config.ForAgent
	}
	return config.ForServer
}

func unknownFormat(command, format, known string) error {
	return &usageError{fmt.Sprintf("-o %s is not a format; choose one of %s", format, known), "see " + command + " --help"}
}
