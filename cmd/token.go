package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// tokenTimeout bounds what a command of this file waits for servers.
const tokenTimeout = time.Minute

func (a *application) tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Category: categoryCluster,
		Usage:     "Manage the tokens with which machines join",
		UsageText: "skiff token COMMAND [FLAGS]",
		Description: `Bootstrap tokens let machines join as agents and expire. The cluster also has a
token that does not; it is in /var/lib/skiff/server/token of each server.

Example: let one more machine join, today
  skiff agent --server https://SERVER:6443 --token "$(sudo skiff token create)"
Example: see which tokens there are
  sudo skiff token list`,
		Subcommands: []*cli.Command{
			a.tokenCreateCommand(), a.tokenListCommand(), a.tokenDeleteCommand(), a.tokenGenerateCommand(), a.tokenRotateCommand(),
		},
	}
}

// SecretFlags names flags of commands, beside settings, whose values must not
// stay in the process list.
func SecretFlags() []string { return []string{"new-token"} }

func kubeconfigFlag() cli.Flag {
	return &cli.StringFlag{Name: "kubeconfig", DefaultText: layout.Default().Kubeconfig(),
		Usage: "`FILE` with an administrator's access (also $KUBECONFIG; default: " + layout.Default().Kubeconfig() + ")"}
}

// kubeconfig is the file that a command's flag, the environment or nobody names.
func (a *application) kubeconfig(c *cli.Context) string {
	if path := c.String("kubeconfig"); path != "" {
		return path
	}
	if path := a.getenv("KUBECONFIG"); path != "" {
		return path
	}
	return layout.Default().Kubeconfig()
}

func (a *application) getenv(name string) string {
	for _, pair := range slices.Backward(a.Environ) {
		if text, ok := strings.CutPrefix(pair, name+"="); ok {
			return text
		}
	}
	return ""
}

// administer runs a function with a client for the API.
func (a *application) administer(c *cli.Context, do func(context.Context, *admin.Client) error) error {
	client, err := admin.Open(a.kubeconfig(c))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.Context, tokenTimeout)
	defer cancel()
	return do(ctx, client)
}

func (a *application) tokenCreateCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "Make a bootstrap token and print it",
		UsageText: "skiff token create [FLAGS] [TOKEN]",
		Description: `Prints the token in full, with the hash of the cluster's CA: it is all that a
machine needs beside the address of a server. TOKEN, of skiff token generate, is
used instead of a random one.

Example: a token for a week
  sudo skiff token create --ttl 168h --description "the new rack"`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "ttl", Value: 24 * time.Hour, Usage: "`TIME` until it expires, like 90m or 24h; 0 for never (default: 24h)"},
			&cli.StringFlag{Name: "description", Usage: "`TEXT` for people: what it is for"},
			&cli.StringFlag{Name: "usages", Value: strings.Join(token.Usages(), ","), Usage: "`LIST` of what it may be used for (default: " + strings.Join(token.Usages(), ",") + ")"},
			&cli.StringFlag{Name: "groups", Value: token.JoinGroup, Usage: "`LIST` of groups that it authenticates as; only the default lets machines join (default: " + token.JoinGroup + ")"},
			kubeconfigFlag(),
		},
		Action: a.createToken,
	}
}

func (a *application) createToken(c *cli.Context) error {
	wanted, err := newToken(c)
	if err != nil {
		return err
	}
	t, err := token.NewBootstrap()
	if err != nil {
		return err
	}
	if c.NArg() > 0 {
		given, err := token.Parse(c.Args().First())
		if c.NArg() > 1 || err != nil || !given.Bootstrap() {
			return &usageError{"one token is wanted, of 6 small letters and digits, a dot, and 16 more; flags come before it", "see skiff token create --help"}
		}
		t = given
	}
	return a.administer(c, func(ctx context.Context, client *admin.Client) error {
		full, err := client.CreateToken(ctx, t, wanted)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.Stdout, full.Reveal())
		return err
	})
}

// newToken is what the flags say about a token to be made.
func newToken(c *cli.Context) (admin.BootstrapToken, error) {
	usage := func(format string, args ...any) (admin.BootstrapToken, error) {
		return admin.BootstrapToken{}, &usageError{fmt.Sprintf(format, args...), "see skiff token create --help"}
	}
	b := admin.BootstrapToken{Description: c.String("description")}
	switch ttl := c.Duration("ttl"); {
	case ttl < 0:
		return usage("--ttl %s is negative; write it like 24h, or 0 for a token that never expires", ttl)
	case ttl > 0:
		until := time.Now().Add(ttl)
		b.Expires = &until
	}
	for use := range strings.SplitSeq(c.String("usages"), ",") {
		if use = strings.TrimSpace(use); !slices.Contains(token.Usages(), use) {
			return usage("--usages: %q is not known; choose from %s", use, strings.Join(token.Usages(), ", "))
		}
		b.Usages = append(b.Usages, use)
	}
	for group := range strings.SplitSeq(c.String("groups"), ",") {
		if group = strings.TrimSpace(group); group == "" {
			continue
		}
		if err := token.CheckGroup(group); err != nil {
			return usage("--groups: %v", err)
		}
		b.Groups = append(b.Groups, group)
	}
	if len(b.Groups) > 0 && !slices.Contains(b.Usages, "authentication") {
		return usage("--groups is for tokens that authenticate: add authentication to --usages, or leave the groups out with --groups ''")
	}
	return b, nil
}

func (a *application) tokenDeleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "Delete bootstrap tokens",
		UsageText: "skiff token delete [FLAGS] ID...",
		Description: `ID is the first part of a token, as skiff token list shows it; a whole token is
taken, too. Machines that have joined with it stay.

Example: delete one
  sudo skiff token delete abc123`,
		Flags: []cli.Flag{kubeconfigFlag()},
		Action: func(c *cli.Context) error {
			ids := make([]string, 0, c.NArg())
			for _, text := range c.Args().Slice() {
				id, ok := tokenID(text)
				if !ok {
					return &usageError{"a token's id has 6 small letters and digits; skiff token list shows them", "see skiff token delete --help"}
				}
				ids = append(ids, id)
			}
			if len(ids) == 0 {
				return &usageError{"name the tokens to delete by their ids; skiff token list shows them", "see skiff token delete --help"}
			}
			return a.administer(c, func(ctx context.Context, client *admin.Client) error {
				for _, id := range ids {
					if err := client.DeleteToken(ctx, id); err != nil {
						return err
					}
					fmt.Fprintf(a.Stdout, "Deleted the bootstrap token %s.\n", id)
				}
				return nil
			})
		},
	}
}

// tokenID is the id in what may be an id or a whole bootstrap token.
func tokenID(text string) (string, bool) {
	if t, err := token.Parse(text); err == nil && t.Bootstrap() {
		return t.ID(), true
	}
	// Any secret part makes an id a token's form.
	t, err := token.Parse(text + ".0000000000000000")
	return t.ID(), err == nil && t.ID() == text
}

func (a *application) tokenGenerateCommand() *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "Print a random token without making it",
		UsageText: "skiff token generate",
		Description: `Nothing is asked or changed; skiff token create makes it a token of the cluster.

Example: know the token before the cluster is there
  skiff token generate`,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff token generate", c.Args().First())
			}
			t, err := token.NewBootstrap()
			if err == nil {
				_, err = fmt.Fprintln(a.Stdout, t.Reveal())
			}
			return err
		},
	}
}

// readSecret is the text in a file, or on standard input when that is "-".
func (a *application) readSecret(path string) (string, error) {
	if path == "-" && a.Stdin != nil {
		data, err := io.ReadAll(io.LimitReader(a.Stdin, 4<<10))
		return strings.TrimSpace(string(data)), err
	}
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}
