package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

func (a *application) tokenRotateCommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "Replace the server or agent token of a running cluster",
		UsageText: "skiff token rotate [FLAGS]",
		Description: `Prints the new token. The old one lets nobody in from then on; machines that
have joined stay. An agent token of its own stays, too; --agent replaces that.
All servers take the new token over. A snapshot from before needs the old one.

It is allowed to the administrator's kubeconfig, or with --token to whoever has
the old token. Where a server is started with --token, write the new one there.

Example: replace it with a random one
  sudo skiff token rotate
Example: from another machine, with the old token
  skiff token rotate --server https://SERVER:6443 --token-file old`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "the old `TOKEN`, whole (also $SKIFF_TOKEN)"},
			&cli.StringFlag{Name: "token-file", Usage: "`FILE` that holds the old token; - for standard input"},
			&cli.BoolFlag{Name: "agent", Usage: "replace the token with which agents alone join, not the server token"},
			&cli.StringFlag{Name: "new-token", Usage: "`PASSWORD` of the new token (default: a random one)"},
			&cli.StringFlag{Name: "new-token-file", Usage: "`FILE` that holds the password; - for standard input"},
			&cli.StringFlag{Name: "server", Aliases: []string{"s"}, Usage: "with --token: `URL` of the server to ask (default: https://127.0.0.1:6443)"},
			kubeconfigFlag(),
		},
		Action: a.rotateToken,
	}
}

func (a *application) rotateToken(c *cli.Context) error {
	if c.NArg() > 0 {
		return noArguments("skiff token rotate", c.Args().First())
	}
	old, err := a.oldToken(c)
	if err != nil {
		return fmt.Errorf("the old token: %w", err)
	}
	next, err := a.nextToken(c)
	if err != nil {
		return fmt.Errorf("the new token: %w", err)
	}
	answer, err := a.rotate(c, old, next)
	if err != nil {
		return err
	}
	what := "server"
	if c.Bool("agent") {
		what = "agent"
	}
	fmt.Fprintf(a.Stderr, "skiff: the %s token was replaced; machines that have joined stay, others need the new one:\n", what)
	if answer.Warning != "" {
		fmt.Fprintln(a.Stderr, "skiff: warning:", answer.Warning)
	}
	_, err = fmt.Fprintln(a.Stdout, answer.Token)
	return err
}

func (a *application) rotate(c *cli.Context, old token.Token, next string) (answer protocol.TokenAnswer, err error) {
	if old.Secret() == "" {
		if c.String("server") != "" {
			return answer, &usageError{"--server is for --token; the administrator's kubeconfig names its server itself", "see skiff token rotate --help"}
		}
		err = a.administer(c, func(ctx context.Context, client *admin.Client) (err error) {
			answer, err = client.RotateToken(ctx, next, c.Bool("agent"))
			return err
		})
		return answer, err
	}
	server := c.String("server")
	if server == "" {
		server = "https://127.0.0.1:6443"
	}
	ctx, cancel := context.WithTimeout(c.Context, tokenTimeout)
	defer cancel()
	return join.Rotate(ctx, server, old, next, c.Bool("agent"))
}

// oldToken is the token that proves the right to replace it; the zero Token
// when the kubeconfig has to.
func (a *application) oldToken(c *cli.Context) (token.Token, error) {
	text := c.String("token")
	if path := c.String("token-file"); path != "" {
		if text != "" {
			return token.Token{}, errors.New("there are --token and --token-file: keep one of them")
		}
		var err error
		if text, err = a.readSecret(path); err != nil {
			return token.Token{}, err
		}
		return token.Parse(text)
	}
	if text == "" {
		text = a.getenv("SKIFF_TOKEN")
	}
	if text == "" {
		return token.Token{}, nil
	}
	return token.Parse(text)
}

// nextToken is the password of the new token, or nothing.
func (a *application) nextToken(c *cli.Context) (string, error) {
	text := c.String("new-token")
	if path := c.String("new-token-file"); path != "" {
		if text != "" {
			return "", errors.New("there are --new-token and --new-token-file: keep one of them")
		}
		var err error
		if text, err = a.readSecret(path); err != nil {
			return "", err
		}
	}
	if text == "" {
		return "", nil
	}
	if _, err := token.Parse(text); err != nil {
		return "", err
	}
	return text, nil
}
