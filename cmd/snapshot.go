package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
	"github.com/skiff-k8s/skiff/pkg/status"
)

func (a *application) snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Category: categoryCluster,
		Usage:     "Save the cluster's state, list what was saved, restore it",
		UsageText: "skiff snapshot COMMAND [FLAGS]",
		Description: `A snapshot is one file with all objects and the cluster's keys, of whichever
datastore. A server makes one every twelve hours and keeps the last five, unless
its settings say otherwise. A running server makes, lists and deletes snapshots
with its own settings; while none runs they are those of the configuration file
and of the flags.

Example: save the state now
  sudo skiff snapshot save
Example: go back to it
  sudo systemctl stop skiff
  sudo skiff snapshot restore NAME
  sudo systemctl start skiff`,
		Subcommands: []*cli.Command{
			a.snapshotSaveCommand(), a.snapshotListCommand(), a.snapshotDeleteCommand(), a.snapshotPruneCommand(), a.snapshotRestoreCommand(),
		},
	}
}

const formatsOfLists = "table, json, yaml"

// snapshotFlags are the settings that the commands of this file have.
func snapshotFlags(given config.Given, more ...string) []cli.Flag {
	more = append(more, config.ConfigFlag, "data-dir")
	return chosenFlags(given, func(f config.Flag) bool {
		return f.Category == config.CategorySnapshots && f.Name != "disable-snapshots" && f.Name != "snapshot-schedule-cron" || slices.Contains(more, f.Name)
	})
}

// snapshots runs a function with the running server's snapshots or, when none
// runs, with those on the disk.
func (a *application) snapshots(c *cli.Context, given config.Given, do func(context.Context, snapshot.Service) error) error {
	if a.Euid != 0 {
		return fmt.Errorf("%s must run as root: snapshots hold the cluster's secrets; use sudo", c.Command.HelpName)
	}
	running := snapshot.Client{Do: func(r *http.Request) (*http.Response, error) { return status.Do(a.socket(), r) }}
	_, err := status.Get(c.Context, a.socket())
	var stopped *status.NotRunningError
	switch {
	case err == nil:
		if name := otherThanFiles(given); name != "" {
			return &usageError{fmt.Sprintf("a server runs, and its settings count: leave --%s out, or set it in the server's configuration and restart it", name), "see " + c.Command.HelpName + " --help"}
		}
		return do(c.Context, running)
	case !errors.As(err, &stopped):
		return err
	}
	effective, err := a.load(config.ForServer, given)
	if err != nil {
		return err
	}
	service, err := a.programs.Snapshots(effective.Server)
	if err != nil {
		return err
	}
	return do(c.Context, service)
}

// otherThanFiles names a setting that was given and says more than where files
// are.
func otherThanFiles(given config.Given) string {
	for name, values := range given {
		if len(values) > 0 && name != config.ConfigFlag && name != "data-dir" {
			return name
		}
	}
	return ""
}

// progress is told what a command is doing, when that takes time.
func (a *application) progress(doing string) func(snapshot.Progress) {
	return func(p snapshot.Progress) {
		fmt.Fprintf(a.Stderr, "skiff: %s: %d of %d keys\n", doing, p.Keys, p.Total)
	}
}

func (a *application) snapshotSaveCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name:      "save",
		Usage:     "Save the cluster's state now",
		UsageText: "skiff snapshot save [FLAGS]",
		Description: `Prints the snapshot's name and where it is. Works with and without a running
server; a running one goes on serving meanwhile. Nothing deletes such a snapshot
by itself: see skiff snapshot prune.

Example: before an upgrade
  sudo skiff snapshot save --name before-upgrade
Example: only the path, for a script
  sudo skiff snapshot save -o json | jq -r '.[0].location'`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`PREFIX` of its name, before node and time (default: " + snapshot.OnDemand + ")"},
			outputFlag(formatsOfLists),
		}, snapshotFlags(given, "datastore-endpoint", "datastore-cafile", "datastore-certfile", "datastore-keyfile")...),
		Action: func(c *cli.Context) error {
			if err := checkList(c, 0); err != nil {
				return err
			}
			return a.snapshots(c, given, func(ctx context.Context, s snapshot.Service) error {
				all, err := s.Save(ctx, c.String("name"), a.progress("saving"))
				return errors.Join(a.writeSnapshots(c.String("output"), "Saved", all), err)
			})
		},
	}
}

func (a *application) snapshotListCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "List the snapshots",
		UsageText: "skiff snapshot list [FLAGS]",
		Description: `Lists the snapshots in this server's directory and on S3, the newest first. The
cluster has them as objects, too: skiff kubectl get snapshots.skiff.io.

Example: the newest one's name
  sudo skiff snapshot list -o json | jq -r '.[0].name'`,
		Flags: append([]cli.Flag{outputFlag(formatsOfLists)}, snapshotFlags(given)...),
		Action: func(c *cli.Context) error {
			if err := checkList(c, 0); err != nil {
				return err
			}
			return a.snapshots(c, given, func(ctx context.Context, s snapshot.Service) error {
				all, err := s.List(ctx)
				return errors.Join(a.writeSnapshots(c.String("output"), "", all), err)
			})
		},
	}
}

func (a *application) snapshotDeleteCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name:      "delete",
		Usage:     "Delete snapshots, in the directory and on S3",
		UsageText: "skiff snapshot delete [FLAGS] NAME...",
		Description: `Example: delete one
  sudo skiff snapshot delete on-demand-server-20260314-091500`,
		Flags: append([]cli.Flag{outputFlag(formatsOfLists)}, snapshotFlags(given)...),
		Action: func(c *cli.Context) error {
			if err := checkList(c, c.NArg()); err != nil {
				return err
			}
			if c.NArg() == 0 {
				return &usageError{"name the snapshots to delete; skiff snapshot list shows them", "see skiff snapshot delete --help"}
			}
			return a.snapshots(c, given, func(ctx context.Context, s snapshot.Service) error {
				var gone []snapshot.Info
				var failed error
				for _, name := range c.Args().Slice() {
					some, err := s.Delete(ctx, name)
					gone, failed = append(gone, some...), errors.Join(failed, err)
				}
				return errors.Join(a.writeSnapshots(c.String("output"), "Deleted", gone), failed)
			})
		},
	}
}

func (a *application) snapshotPruneCommand() *cli.Command {
	given := config.Given{}
	return &cli.Command{
		Name:      "prune",
		Usage:     "Delete old snapshots, but for the newest ones",
		UsageText: "skiff snapshot prune [FLAGS]",
		Description: `Deletes this server's oldest snapshots of one name, in the directory and on S3,
and prints which. The schedule does that by itself with its own.

Example: keep the last two that were saved by hand
  sudo skiff snapshot prune --name on-demand --keep 2`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`PREFIX` of their names (default: the schedule's, which is --snapshot-name)"},
			&cli.IntFlag{Name: "keep", Value: -1, Usage: "`NUMBER` that stay in each place (default: --snapshot-retention)"},
			outputFlag(formatsOfLists),
		}, snapshotFlags(given)...),
		Action: func(c *cli.Context) error {
			if err := checkList(c, 0); err != nil {
				return err
			}
			if c.IsSet("keep") && c.Int("keep") < 0 {
				return &usageError{"--keep is negative", "see skiff snapshot prune --help"}
			}
			return a.snapshots(c, given, func(ctx context.Context, s snapshot.Service) error {
				gone, err := s.Prune(ctx, c.String("name"), c.Int("keep"))
				return errors.Join(a.writeSnapshots(c.String("output"), "Deleted", gone), err)
			})
		},
	}
}

// checkList judges what the commands above have in common.
func checkList(c *cli.Context, arguments int) error {
	if c.NArg() > arguments {
		return noArguments(c.Command.HelpName, c.Args().First())
	}
	if format := c.String("output"); format != "" && !slices.Contains(strings.Split(formatsOfLists, ", "), format) {
		return unknownFormat(c.Command.HelpName, format, formatsOfLists)
	}
	return nil
}
