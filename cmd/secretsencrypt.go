package cmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// encryptionInterval is the time between looks at how far a change is.
const encryptionInterval = 500 * time.Millisecond

func (a *application) secretsEncryptCommand() *cli.Command {
	return &cli.Command{
		Name: "secrets-encrypt", Category: categoryCluster,
		Usage:     "Manage how Secrets are encrypted in the datastore",
		UsageText: "skiff secrets-encrypt COMMAND [FLAGS]",
		Description: `A new cluster encrypts Secrets from the start. All of this happens while the
cluster runs, on all servers; a change that is interrupted goes on with the next
start of the server.

Example: see whether they are encrypted, and with which key
  sudo skiff secrets-encrypt status
Example: replace the key, and write every Secret with the new one
  sudo skiff secrets-encrypt rotate-keys`,
		Subcommands: []*cli.Command{
			a.encryptionStatusCommand(),
			a.encryptionChange("enable", "Encrypt Secrets from now on, and those that there are",
				`Makes a key and has every Secret written anew with it.`),
			a.encryptionChange("disable", "Keep Secrets as plain text again",
				`Has every Secret written as plain text. Whoever can read the datastore or a
backup of it can then read them.`),
			a.encryptionChange("rotate-keys", "Replace the key, and write every Secret with the new one",
				`Makes a key of the kind that --secrets-encryption-provider of the server names,
has every Secret written anew with it, and forgets the old key. A backup from
before needs the old key, which is in that backup.`),
			a.encryptionChange("reencrypt", "Write every Secret anew that is stored in another way",
				`Looks for Secrets that are stored in another way than they would be written now,
such as ones that a restored backup brought, and writes them anew.`),
		},
	}
}

func (a *application) encryptionStatusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "Show how Secrets are stored, and how far a change is",
		UsageText: "skiff secrets-encrypt status [-o table|json|yaml]",
		Description: `Counts what is stored in the datastore; nothing is decrypted for it.

Example: is a change under way, for a script
  sudo skiff secrets-encrypt status -o json | jq .operation`,
		Flags: []cli.Flag{outputFlag("table, json, yaml"), kubeconfigFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff secrets-encrypt status", c.Args().First())
			}
			format := c.String("output")
			if !slices.Contains([]string{"", "table", "json", "yaml"}, format) {
				return unknownFormat("skiff secrets-encrypt status", format, "table, json, yaml")
			}
			return a.administer(c, func(ctx context.Context, client *admin.Client) error {
				s, err := client.Encryption(ctx)
				if err != nil {
					return err
				}
				return printAs(a.Stdout, format, s, func() string { return encryptionTable(s) })
			})
		},
	}
}

func encryptionTable(s protocol.EncryptionStatus) string {
	var b strings.Builder
	state := "off: Secrets are stored as plain text"
	if s.Enabled {
		state = "on"
	}
	fmt.Fprintf(&b, "Encryption  %s\n", state)
	fmt.Fprintf(&b, "Secrets     %d of %d stored in that way\n", s.Current, s.Secrets)
	switch op := s.Operation; {
	case op != nil:
		fmt.Fprintf(&b, "Change      %s, step %s, since %s\n", op.Action, op.Step, op.Since.Local().Format(time.DateTime))
		if op.Problem != "" {
			b.WriteString("Held up by\n" + wrap(op.Problem, 2))
		}
	case s.Last != nil:
		fmt.Fprintf(&b, "Change      none; the last was %s on %s\n", s.Last.Action, s.Last.Since.Local().Format(time.DateOnly))
	default:
		b.WriteString("Change      none\n")
	}
	if len(s.Keys) > 0 {
		fmt.Fprintf(&b, "\n%-6s  %-9s  %-16s  %s\n", "ACTIVE", "PROVIDER", "MADE (UTC)", "KEY")
		for _, k := range s.Keys {
			active := ""
			if k.Active {
				active = "*"
			}
			fmt.Fprintf(&b, "%-6s  %-9s  %-16s  %s\n", active, k.Provider, k.Made.UTC().Format("2006-01-02 15:04"), k.Name)
		}
	}
	fmt.Fprintf(&b, "\n%-16s  %s\n", "KEYS LOADED", "SERVER")
	for _, server := range s.Servers {
		fmt.Fprintf(&b, "%-16s  %s\n", server.Hash, server.Name)
	}
	return b.String()
}

func (a *application) encryptionChange(name, usage, description string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage,
		UsageText: "skiff secrets-encrypt " + name + " [FLAGS]",
		Description: description + `

It waits until that is done and shows how far it is; interrupting it leaves the
change under way.

Example: do it
  sudo skiff secrets-encrypt ` + name,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "no-wait", Usage: "begin it and do not wait for its end"}, kubeconfigFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff secrets-encrypt "+name, c.Args().First())
			}
			client, err := admin.Open(a.kubeconfig(c))
			if err != nil {
				return err
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(c.Context, tokenTimeout)
			s, err := client.ChangeEncryption(ctx, name)
			cancel()
			if err != nil {
				return err
			}
			if c.Bool("no-wait") {
				fmt.Fprintf(a.Stdout, "Began %s of the encryption of Secrets; skiff secrets-encrypt status shows how far it is.\n", name)
				return nil
			}
			return a.awaitEncryption(c.Context, client, s)
		},
	}
}

// awaitEncryption shows how far a change is until it is done.
func (a *application) awaitEncryption(ctx context.Context, client *admin.Client, s protocol.EncryptionStatus) (err error) {
	shown := ""
	for s.Operation != nil {
		line := fmt.Sprintf("%s: %s, %d of %d Secrets", s.Operation.Action, s.Operation.Step, s.Current, s.Secrets)
		if s.Operation.Problem != "" {
			line += "; held up by: " + s.Operation.Problem
		}
		if line != shown {
			fmt.Fprintln(a.Stderr, "skiff:", line)
			shown = line
		}
		select {
		case <-time.After(encryptionInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if s, err = client.Encryption(ctx); err != nil {
			return fmt.Errorf("the change is under way: %w", err)
		}
	}
	how := "plain text"
	if s.Enabled {
		how = "encrypted"
	}
	_, err = fmt.Fprintf(a.Stdout, "Done: %d of %d Secrets are stored %s.\n", s.Current, s.Secrets, how)
	return err
}
