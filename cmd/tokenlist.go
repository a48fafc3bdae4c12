package cmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/token"
)

func (a *application) tokenListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "List the bootstrap tokens, without their secrets",
		UsageText: "skiff token list [-o table|json|yaml]",
		Description: `Shows id, time left, what each token may be used for and its description.

Example: the ids of all of them, for a script
  sudo skiff token list -o json | jq -r '.[].id'`,
		Flags: []cli.Flag{outputFlag("table, json, yaml"), kubeconfigFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff token list", c.Args().First())
			}
			format := c.String("output")
			if !slices.Contains([]string{"", "table", "json", "yaml"}, format) {
				return unknownFormat("skiff token list", format, "table, json, yaml")
			}
			return a.administer(c, func(ctx context.Context, client *admin.Client) error {
				tokens, err := client.Tokens(ctx)
				if err != nil {
					return err
				}
				return printAs(a.Stdout, format, tokens, func() string { return tokenTable(tokens, time.Now()) })
			})
		},
	}
}

// tokenTable has a line for each token and further ones for what is long.
func tokenTable(tokens []admin.BootstrapToken, now time.Time) string {
	if len(tokens) == 0 {
		return "There are no bootstrap tokens; skiff token create makes one.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s  %-8s  %-17s  %s\n", "ID", "LEFT", "EXPIRES (UTC)", "USAGES")
	for _, t := range tokens {
		left, at := "forever", "never"
		if t.Expires != nil {
			left, at = timeLeft(t.Expires.Sub(now)), t.Expires.UTC().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(&b, "%-6s  %-8s  %-17s  %s\n", t.ID, left, at, strings.Join(t.Usages, ","))
		if t.Description != "" {
			b.WriteString(wrap(t.Description, 8))
		}
		if !t.Joins() {
			groups := "no groups"
			if len(t.Groups) > 0 {
				groups = "groups " + strings.Join(t.Groups, ", ")
			}
			b.WriteString(wrap("not for joining: "+groups+" (wanted: "+token.JoinGroup+" and the usage authentication)", 8))
		}
	}
	return b.String()
}

// timeLeft is a time as people say it, in one or two units.
func timeLeft(d time.Duration) string {
	switch {
	case d <= 0:
		return "expired"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
