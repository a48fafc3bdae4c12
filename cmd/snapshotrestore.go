package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
	"github.com/skiff-k8s/skiff/pkg/snapshot"
)

// intoValues are the datastores that can be filled.
const intoValues = "sqlite, etcd"

func (a *application) snapshotRestoreCommand() *cli.Command {
	given := config.Given{}
	const formats = "text, json, yaml"
	return &cli.Command{
		Name:      "restore",
		Usage:     "Replace the state of a stopped server by that of a snapshot",
		UsageText: "skiff snapshot restore [FLAGS] FILE|NAME",
		Description: `The server must not run. The snapshot is looked at from beginning to end before
anything is changed, and what it replaces is kept and named. A NAME is looked
for in the directory of snapshots, then on S3.

On the same machine nothing else is needed. On another machine, with any address
and name, give the server token that the cluster had when the snapshot was made,
start the server, and delete the old one's Node. Agents come back by themselves
if they reach the new server at an address that they know.

Example: go back on this machine
  sudo skiff snapshot restore snapshot-server-20260314-091500
Example: on a new machine
  sudo skiff snapshot restore --token-file token ./snapshot-server-20260314-091500.snapshot
  sudo skiff server
  sudo skiff kubectl delete node OLD
Example: from S3
  sudo skiff snapshot restore --token-file token --s3 --s3-bucket backups \
    --s3-access-key KEY --s3-secret-key KEY snapshot-server-20260314-091500`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "into", DefaultText: intoValues, Usage: "`DATASTORE` to fill: " + intoValues + " (default: what the settings say, or this server has, or the snapshot is of)"},
			outputFlag(formats),
		}, snapshotFlags(given, "token", "token-file")...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"name one snapshot, or its file; flags come before it", "see skiff snapshot restore --help"}
			}
			format := c.String("output")
			if !slices.Contains([]string{"", "text", "json", "yaml"}, format) {
				return unknownFormat("skiff snapshot restore", format, formats)
			}
			if into := c.String("into"); into != "" && !slices.Contains(strings.Split(intoValues, ", "), into) {
				return &usageError{fmt.Sprintf("--into %s is not known; choose from %s", into, intoValues), "see skiff snapshot restore --help"}
			}
			if a.Euid != 0 {
				return fmt.Errorf("skiff snapshot restore must run as root: it replaces the state of the server; use sudo")
			}
			effective, err := a.load(config.ForServer, given)
			if err != nil {
				return err
			}
			done, err := a.programs.Restore(c.Context, effective.Server, snapshot.Restore{Name: c.Args().First(), Into: c.String("into"), Report: a.progress("restoring")})
			if err != nil {
				return err
			}
			return a.writeRestored(format, effective.Server, done)
		},
	}
}

func (a *application) writeRestored(format string, cfg config.Server, r snapshot.Restored) error {
	m := r.Snapshot
	if format == "json" || format == "yaml" {
		r.Snapshot = m.WithoutKeys()
		return a.writeData(format, r)
	}
	fmt.Fprintf(a.Stdout, "Restored %s of node %s, %s, with %d keys.\n", m.Name, m.Node, m.Created.UTC().Format("2006-01-02 15:04:05 UTC"), m.Keys)
	if r.Kept != "" {
		fmt.Fprintf(a.Stdout, "The state from before is in %s; delete it when you do not need it any more.\n", r.Kept)
	}
	fmt.Fprintln(a.Stdout, "Start the server now.")
	if m.Node != cfg.Node.Name {
		fmt.Fprintf(a.Stdout, "When it runs, and unless %s comes back: skiff kubectl delete node %s\n", m.Node, m.Node)
	}
	return nil
}
