package cmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

func (a *application) certificateCommand() *cli.Command {
	return &cli.Command{
		Name: "certificate", Category: categoryCluster,
		Usage:     "Look at this machine's certificates, and replace them",
		UsageText: "skiff certificate COMMAND [FLAGS]",
		Description: `Certificates are renewed by themselves, without a restart, when a third of their
year is left. A machine that was off for longer gets new ones when it starts.

Example: see when what expires
  sudo skiff certificate check
Example: replace the cluster's CAs while it runs
  sudo skiff certificate rotate-ca`,
		Subcommands: []*cli.Command{a.certificateCheckCommand(), a.certificateRotateCommand(), a.certificateRotateCACommand()},
	}
}

func dataDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "data-dir", Aliases: []string{"d"}, Value: layout.DefaultDataDir, Usage: "`DIR` that skiff keeps everything in (default: " + layout.DefaultDataDir + ")"}
}

func layoutOf(c *cli.Context) (layout.Layout, error) {
	l := layout.Default()
	dir, err := filepath.Abs(c.String("data-dir"))
	if err != nil {
		return l, fmt.Errorf("--data-dir: %w", err)
	}
	l.Data = dir
	return l, nil
}

// attention is the error for something that is not as it should be.
type attention struct{ message string }

func (e *attention) Error() string { return e.message }
func (e *attention) ExitCode() int { return 2 }

func (a *application) certificateCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "Show when certificates, CAs and the admin's kubeconfig expire",
		UsageText: "skiff certificate check [-o table|json|yaml]",
		Description: `Reads the files of this machine, a server's or an agent's, whether skiff runs or
not.

Exits with 0 when all is well, with 2 when something has expired, is broken, or
is due for renewal, which a running skiff does by itself, and with 1 when
looking failed.

Example: what is not well, for a script
  sudo skiff certificate check -o json | jq '.[] | select(.state != "ok")'`,
		Flags: []cli.Flag{outputFlag("table, json, yaml"), dataDirFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff certificate check", c.Args().First())
			}
			format := c.String("output")
			if !slices.Contains([]string{"", "table", "json", "yaml"}, format) {
				return unknownFormat("skiff certificate check", format, "table, json, yaml")
			}
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			now := time.Now()
			list, err := pki.Inspect(l, now)
			if err != nil {
				return err
			}
			if err := printAs(a.Stdout, format, list, func() string { return certificateTable(l, list, now) }); err != nil {
				return err
			}
			bad := slices.DeleteFunc(slices.Clone(list), func(i pki.Info) bool { return i.State == pki.StateOK })
			if len(bad) > 0 {
				return &attention{fmt.Sprintf("%d of %d certificates are not well", len(bad), len(list))}
			}
			return nil
		},
	}
}

func certificateTable(l layout.Layout, list []pki.Info, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s  %-10s  %-7s  %-17s  %s\n", "STATE", "EXPIRES", "LEFT", "OF", "FILE")
	for _, i := range list {
		of, expires, left := i.Service, "-", "-"
		if i.Kind == pki.KindOldCA {
			of += ", old"
		}
		if !i.Expires.IsZero() {
			expires, left = i.Expires.Format(time.DateOnly), timeLeft(i.Expires.Sub(now))
		}
		file := i.File
		if rel, err := filepath.Rel(l.Data, file); err == nil && !strings.HasPrefix(rel, "..") {
			file = filepath.Base(rel)
			if strings.HasPrefix(rel, "agent/") {
				file = "agent/" + file
			}
		}
		fmt.Fprintf(&b, "%-7s  %-10s  %-7s  %-17s  %s\n", i.State, expires, left, of, file)
		if i.Problem != "" {
			b.WriteString(wrap(i.Problem, 9))
		}
	}
	return b.String()
}

func (a *application) certificateRotateCommand() *cli.Command {
	services := strings.Join(pki.Services(), ", ")
	return &cli.Command{
		Name:      "rotate",
		Usage:     "Issue certificates of this machine anew",
		UsageText: "skiff certificate rotate [--service NAME]...",
		Description: `A running server issues them at once and uses them without a restart. Where
nothing runs, and on agents, they are issued with the next start.

Example: all of a running server
  sudo skiff certificate rotate
Example: the API's alone
  sudo skiff certificate rotate --service api-server`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "service", Aliases: []string{"s"}, Usage: "`NAME` of whose: " + services + "; may be repeated (default: all)"},
			dataDirFlag(), kubeconfigFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff certificate rotate", c.Args().First())
			}
			wanted := c.StringSlice("service")
			for _, name := range wanted {
				if !slices.Contains(pki.Services(), name) {
					return &usageError{fmt.Sprintf("there are no certificates of %q; choose from %s", name, services), "see skiff certificate rotate --help"}
				}
			}
			return a.rotateCertificates(c, wanted)
		},
	}
}

func (a *application) rotateCertificates(c *cli.Context, wanted []string) error {
	l, err := layoutOf(c)
	if err != nil {
		return err
	}
	removed, err := pki.RemoveLeaves(l, wanted)
	switch {
	case err == nil && len(removed) == 0:
		return fmt.Errorf("there are no such certificates below %s", l.Data)
	case err == nil:
		_, err = fmt.Fprintf(a.Stdout, "%d certificates were removed; skiff issues new ones when it starts.\n", len(removed))
		return err
	case !pki.Running(err):
		return err
	case !pki.IsServer(l):
		return errors.New("an agent runs here: stop it, do this again, and start it; pods go on running meanwhile")
	}
	return a.administer(c, func(ctx context.Context, client *admin.Client) error {
		if _, err := client.Certificates(ctx, protocol.CertificatesRequest{Services: wanted}); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.Stdout, "The running server has issued the certificates anew and uses them.")
		return err
	})
}

func (a *application) certificateRotateCACommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate-ca",
		Usage:     "Replace the cluster's CAs",
		UsageText: "skiff certificate rotate-ca [--path DIR] [--force]",
		Description: `Makes new CAs, or takes those in DIR, for which the old ones vouch. Agents that
run take them over by themselves; kubeconfigs and tokens that are out there
stay good, as long as the old CA lives. The token that names the new one is in
/var/lib/skiff/server/token.

Files in DIR are called as in /var/lib/skiff/server/tls: server-ca.crt and .key,
client-ca, request-header-ca, etcd/server-ca, etcd/peer-ca, service.key. What is
missing there stays as it is. All is checked before anything changes.

Other servers take the new CAs over by themselves.

Example: new ones for a running cluster
  sudo skiff certificate rotate-ca
Example: your own
  sudo skiff certificate rotate-ca --path /root/new-cas`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "path", Usage: "`DIR` with new CAs"},
			&cli.BoolFlag{Name: "force", Usage: "trust the old CAs no more, as when their keys are in wrong hands: every agent has to join anew, every kubeconfig and token is void"},
			dataDirFlag(), kubeconfigFlag(),
		},
		Action: a.rotateCA,
	}
}

func (a *application) rotateCA(c *cli.Context) (err error) {
	if c.NArg() > 0 {
		return noArguments("skiff certificate rotate-ca", c.Args().First())
	}
	l, err := layoutOf(c)
	if err != nil {
		return err
	}
	if !pki.IsServer(l) {
		return fmt.Errorf("there are no CAs below %s: run this on a server", l.Data)
	}
	var set pki.CASet
	if dir := c.String("path"); dir != "" {
		if set, err = pki.ReadCASet(dir); err != nil {
			return err
		}
	}
	names, err := pki.ReplaceCAs(l, set, c.Bool("force"), time.Now())
	where := "They are in use with the next start."
	if pki.Running(err) {
		where = "The running server uses them; agents that run follow."
		err = a.administer(c, func(ctx context.Context, client *admin.Client) error {
			answer, err := client.Certificates(ctx, protocol.CertificatesRequest{CA: &protocol.CARequest{Files: set, Force: c.Bool("force")}})
			names = answer.CAs
			return err
		})
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "Replaced: %s. %s\n", strings.Join(names, ", "), where)
	return err
}
