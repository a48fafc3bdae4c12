package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// usageError is a command line that cannot be understood.
type usageError struct{ message, help string }

func (e *usageError) Error() string { return e.message + "\n" + e.help }
func (e *usageError) ExitCode() int { return 2 }

// exitCoder is an error that wants another exit code than 1.
type exitCoder interface {
	error
	ExitCode() int
}

// report prints an error, each line after the program's name, and gives the
// exit code.
func (a *application) report(err error) int {
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(a.Stderr, "skiff:", strings.TrimSuffix(line, "\n"))
	}
	if coded, ok := errors.AsType[exitCoder](err); ok {
		return coded.ExitCode()
	}
	return 1
}

func unknownCommand(parent, name string, commands []*cli.Command) error {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	message := fmt.Sprintf("there is no command %q", parent+" "+name)
	if near := config.Suggest(name, names); near != "" {
		message += fmt.Sprintf("; did you mean %q?", parent+" "+near)
	}
	return &usageError{message, "see " + parent + " --help"}
}

func noArguments(parent, first string) error {
	return &usageError{fmt.Sprintf("%q takes no arguments, but was given %q; flags begin with --", parent, first), "see " + parent + " --help"}
}

// flagError puts the flag package's errors into words.
func flagError(parent string, err error, flags []cli.Flag) error {
	help := "see " + parent + " --help"
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		message := fmt.Sprintf("%q has no flag %s", parent, dashed(name))
		if near := config.Suggest(name, flagNames(flags)); near != "" {
			message += fmt.Sprintf("; did you mean %s?", dashed(near))
		}
		return &usageError{message, help}
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return &usageError{fmt.Sprintf("%s needs a value", dashed(strings.TrimLeft(name, "-"))), help}
	}
	return &usageError{text, help}
}

// rootFlagError also helps those who put a flag before the command.
func rootFlagError(err error, flags []cli.Flag) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		for _, f := range config.Flags() {
			if f.Name == name || slices.Contains(f.Aliases, name) {
				command := "server"
				if f.For&config.ForServer == 0 {
					command = "agent"
				}
				return &usageError{fmt.Sprintf("%s is a flag of the %s; write it after the command: skiff %[2]s %[1]s", dashed(name), command), "see skiff --help"}
			}
		}
	}
	return flagError("skiff", err, flags)
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		if s, ok := f.(*settingFlag); ok && s.foreign {
			continue
		}
		names = append(names, longName(f))
	}
	return names
}

func longName(f cli.Flag) string {
	return slices.MaxFunc(f.Names(), func(a, b string) int { return len(a) - len(b) })
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
