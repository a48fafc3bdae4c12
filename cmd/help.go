package cmd

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

const rootDescription = `Skiff is Kubernetes as one process.

Example: start a cluster
  sudo skiff server
Example: use it
  sudo skiff kubectl get nodes`

// width is the width that help is written for, in columns.
const width = 80

func (a *application) helpCommand() *cli.Command {
	return &cli.Command{
		Name: helpName, Category: categoryTools,
		Usage:     "Show the help of a command",
		UsageText: "skiff help [COMMAND]",
		Action: func(c *cli.Context) error {
			return a.help(a.app(), c.Args().Slice())
		},
	}
}

// help writes the help of the command at a path of names; of skiff itself when
// the path is empty.
func (a *application) help(app *cli.App, path []string) error {
	c := &cli.Command{Name: "skiff", UsageText: app.UsageText, Description: app.Description, Subcommands: app.Commands, Flags: app.Flags}
	for i, name := range path {
		at := slices.IndexFunc(c.Subcommands, func(sub *cli.Command) bool { return sub.HasName(name) })
		if at < 0 {
			return unknownCommand(strings.Join(append([]string{"skiff"}, path[:i]...), " "), name, c.Subcommands)
		}
		c = c.Subcommands[at]
	}
	_, err := io.WriteString(a.Stdout, helpText(c))
	return err
}

func helpText(c *cli.Command) string {
	var b strings.Builder
	about, examples, _ := strings.Cut(c.Description, "Example: ")
	if about = strings.TrimSpace(about); about != "" {
		fmt.Fprintf(&b, "%s\n\n", about)
	} else if c.Usage != "" {
		fmt.Fprintf(&b, "%s.\n\n", c.Usage)
	}
	fmt.Fprintf(&b, "Usage:\n  %s\n", c.UsageText)
	if examples != "" {
		b.WriteString("\nExamples:\n")
		for example := range strings.SplitSeq(examples, "\nExample: ") {
			title, command, _ := strings.Cut(example, "\n")
			fmt.Fprintf(&b, "  # %s\n%s\n", title, command)
		}
	}
	writeCommands(&b, c.Subcommands)
	writeFlags(&b, c.Flags)
	if len(c.Subcommands) > 0 {
		name := strings.Fields(c.UsageText)
		fmt.Fprintf(&b, "\nMore about a command: %s COMMAND --help\n", strings.Join(name[:slices.Index(name, "COMMAND")], " "))
	}
	return b.String()
}

func writeCommands(b *strings.Builder, commands []*cli.Command) {
	for _, category := range []string{"", categoryCluster, categoryTools} {
		in := slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Category != category || c.Hidden })
		if len(in) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s:\n", cmp.Or(category, "Commands"))
		for _, c := range in {
			fmt.Fprintf(b, "  %-12s%s\n", c.Name, c.Usage)
		}
	}
}

// writeFlags writes the command's own flags, then settings by category.
func writeFlags(b *strings.Builder, flags []cli.Flag) {
	var lines []string
	for _, f := range flags {
		if _, setting := f.(*settingFlag); !setting {
			lines = append(lines, ownFlag(f))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\nFlags:\n%s", strings.Join(lines, ""))
	}
	category := ""
	for _, f := range flags {
		s, ok := f.(*settingFlag)
		if !ok || s.foreign {
			continue
		}
		if s.Category != category {
			category = s.Category
			fmt.Fprintf(b, "\n%s:\n", category)
		}
		b.WriteString(setting(s.Flag))
	}
}

func ownFlag(f cli.Flag) string {
	alias, usage, value := "", "", ""
	switch f := f.(type) {
	case *switchFlag:
		alias, usage = f.alias, f.usage
	case cli.DocGenerationFlag:
		usage = f.GetUsage()
		if f.TakesValue() {
			value, usage = named(usage)
		}
		if names := f.(cli.Flag).Names(); len(names) > 1 {
			alias = names[1]
		}
	}
	return flagHead(longName(f), alias, value) + wrap(usage, 10)
}

// named takes the name of a flag's value out of its usage, where it is between
// backquotes, as urfave/cli has it.
func named(usage string) (name, text string) {
	before, rest, _ := strings.Cut(usage, "`")
	name, after, ok := strings.Cut(rest, "`")
	if !ok {
		return "FORMAT", usage
	}
	return name, before + name + after
}

func setting(f config.Flag) string {
	alias := ""
	if len(f.Aliases) > 0 {
		alias = f.Aliases[0]
	}
	var notes []string
	if len(f.Values) > 0 {
		notes = append(notes, "one of "+strings.Join(f.Values, ", "))
	}
	if f.Kind() == config.KindList {
		notes = append(notes, "may be repeated")
	}
	if text := f.DefaultText(); text != "" {
		notes = append(notes, "default: "+text)
	}
	if len(f.EnvAlias) > 0 {
		notes = append(notes, "also $"+strings.Join(f.EnvAlias, ", $"))
	}
	usage := f.Usage
	if len(notes) > 0 {
		usage += " (" + strings.Join(notes, "; ") + ")"
	}
	return flagHead(f.Name, alias, metavar(f)) + wrap(usage, 10)
}

func metavar(f config.Flag) string {
	switch {
	case f.Kind() == config.KindBool:
		return ""
	case f.Metavar != "":
		return f.Metavar
	default:
		return "NAME"
	}
}

func flagHead(name, alias, value string) string {
	head := "      " + dashed(name)
	if len(name) == 1 {
		head = "  " + dashed(name)
	}
	if alias != "" {
		head = "  " + dashed(alias) + ", " + dashed(name)
	}
	return strings.TrimRight(head+" "+value, " ") + "\n"
}

// wrap breaks a text into indented lines of at most width columns.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
