package cmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/status"
)

// statusTimeout bounds the question to a process that hangs: it answers from
// memory.
const statusTimeout = 5 * time.Second

func (a *application) statusCommand() *cli.Command {
	formats := strings.Join(status.Formats(), ", ")
	return &cli.Command{
		Name: "status", Category: categoryCluster,
		Usage:     "Show what the running server or agent is doing and since when",
		UsageText: "skiff status [-o " + strings.Join(status.Formats(), "|") + "]",
		Description: `Asks the running server or agent for its components, which of them are ready,
what the others wait for, and how long the API and the node took to become
ready.

Exits with 0 when everything is ready, with 1 when none runs, and with 2 when
one runs of which something is not ready.

Example: see the components
  sudo skiff status
Example: how long the start took, for a script
  sudo skiff status -o json | jq .nodeReadyAfterSeconds`,
		Flags: []cli.Flag{outputFlag(formats)},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff status", c.Args().First())
			}
			format := c.String("output")
			if format != "" && !slices.Contains(status.Formats(), format) {
				return unknownFormat("skiff status", format, formats)
			}
			return a.printStatus(c.Context, format)
		},
	}
}

func (a *application) printStatus(ctx context.Context, format string) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	report, err := status.Get(ctx, a.socket())
	if err != nil {
		return err
	}
	if err := status.Write(a.Stdout, format, report); err != nil {
		return fmt.Errorf("showing the status: %w", err)
	}
	return report.Err()
}

func (a *application) socket() string {
	if a.StatusSocket != "" {
		return a.StatusSocket
	}
	return layout.Default().StatusSocket()
}
