package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// completeCommand is what the shells' completion scripts call, with the words
// so far. The scripts are cobra's, as kubectl's are: they speak the same
// protocol, so that one script completes skiff and the kubectl in it.
const completeCommand = cobra.ShellCompRequestCmd

func (a *application) completionCommand() *cli.Command {
	shells := []string{"bash", "zsh", "fish"}
	c := &cli.Command{
		Name: "completion", Category: categoryTools,
		Usage:     "Print a completion script for bash, zsh or fish",
		UsageText: "skiff completion SHELL",
		Description: `Completes commands, flags and their values, and all that kubectl completes
after skiff kubectl.

Example: bash
  skiff completion bash | sudo tee /etc/bash_completion.d/skiff
Example: zsh
  skiff completion zsh > "${fpath[1]}/_skiff"
Example: fish
  skiff completion fish > ~/.config/fish/completions/skiff.fish`,
		Action: func(c *cli.Context) error {
			root := &cobra.Command{Use: "skiff"}
			switch shell := c.Args().First(); {
			case c.NArg() != 1:
				return &usageError{"name one shell: " + strings.Join(shells, ", "), "see skiff completion --help"}
			case shell == "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case shell == "zsh":
				return root.GenZshCompletion(a.Stdout)
			case shell == "fish":
				return root.GenFishCompletion(a.Stdout, true)
			default:
				return &usageError{fmt.Sprintf("there is no completion for %q; choose one of %s", shell, strings.Join(shells, ", ")), "see skiff completion --help"}
			}
		},
	}
	return c
}

// complete answers a completion script: a line per candidate, with its
// description after a tab, then a line that tells the shell what to do.
func (a *application) complete(words []string) int {
	if len(words) > 1 && words[0] == "kubectl" {
		return a.programs.Kubectl(append([]string{completeCommand}, words[1:]...))
	}
	commands, flags := a.app().Commands, a.app().Flags
	if len(words) > 1 && words[0] == "ctr" {
		ctr := a.programs.Ctr()
		commands, flags, words = ctr.Commands, ctr.Flags, words[1:]
	}
	candidates, directive := completions(commands, flags, words)
	for _, c := range candidates {
		fmt.Fprintln(a.Stdout, c)
	}
	fmt.Fprintf(a.Stdout, ":%d\n", directive)
	return 0
}

// completions walks down the words to the command that the last one belongs
// to.
func completions(commands []*cli.Command, flags []cli.Flag, words []string) ([]string, cobra.ShellCompDirective) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	var name string
	for i := 0; i < len(words)-1; i++ {
		word := words[i]
		if strings.HasPrefix(word, "-") {
			f := findFlag(flags, word)
			if f == nil || strings.Contains(word, "=") || !takesValue(f) {
				continue
			}
			if i++; i == len(words)-1 {
				return values(f, last)
			}
			continue
		}
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if at < 0 {
			break
		}
		name, flags, commands = commands[at].Name, commands[at].Flags, commands[at].Subcommands
	}
	if head, text, ok := strings.Cut(last, "="); ok && strings.HasPrefix(last, "-") {
		if f := findFlag(flags, head); f != nil {
			return values(f, text)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if strings.HasPrefix(last, "-") {
		return flagCandidates(flags, last), cobra.ShellCompDirectiveNoFileComp
	}
	return wordCandidates(name, commands, last), cobra.ShellCompDirectiveNoFileComp
}

func findFlag(flags []cli.Flag, word string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	for _, f := range flags {
		names := f.Names()
		if s, ok := f.(*settingFlag); ok {
			names = append(names, s.Aliases...)
		}
		if slices.Contains(names, name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	switch f := f.(type) {
	case *settingFlag:
		return !f.bare
	case *switchFlag:
		return false
	case cli.DocGenerationFlag:
		return f.TakesValue()
	}
	return false
}

// values completes the value of a flag: from its choices, else file names.
func values(f cli.Flag, prefix string) ([]string, cobra.ShellCompDirective) {
	s, ok := f.(*settingFlag)
	switch {
	case ok && s.Path:
		return nil, cobra.ShellCompDirectiveDefault
	case ok && s.Name == "disable":
		return withPrefix(config.DisableNames(), prefix), cobra.ShellCompDirectiveNoFileComp
	case ok:
		return withPrefix(s.Values, prefix), cobra.ShellCompDirectiveNoFileComp
	}
	if o, ok := f.(*cli.StringFlag); ok && o.Name == "output" && o.DefaultText != "" {
		return withPrefix(strings.Split(o.DefaultText, ", "), prefix), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

func withPrefix(all []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

func flagCandidates(flags []cli.Flag, prefix string) []string {
	var out []string
	for _, f := range flags {
		usage := ""
		switch f := f.(type) {
		case *settingFlag:
			if f.foreign {
				continue
			}
			usage = f.Usage
		case *switchFlag:
			usage = f.usage
		case cli.DocGenerationFlag:
			_, usage = named(f.GetUsage())
		}
		if name := dashed(longName(f)); strings.HasPrefix(name, prefix) {
			out = append(out, name+"\t"+usage)
		}
	}
	return out
}

func wordCandidates(command string, commands []*cli.Command, prefix string) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden && strings.HasPrefix(c.Name, prefix) {
			out = append(out, c.Name+"\t"+c.Usage)
		}
	}
	if command == "completion" {
		out = withPrefix([]string{"bash", "zsh", "fish"}, prefix)
	}
	return out
}
