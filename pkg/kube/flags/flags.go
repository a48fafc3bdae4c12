// Package flags helps the packages beside it with upstream's command-line
// flags: the users' extra arguments are parsed by upstream's own flag sets, so
// that they mean what they mean upstream. Packages below pkg/kube and the
// wiring import it.
package flags

import (
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// NewSet joins upstream's flag sets into one. Registering flags resets some
// options to fixed defaults, so it is done before options are set otherwise.
func NewSet(name string, sets map[string]*pflag.FlagSet) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard) // upstream's advice to use its own files
	for _, set := range sets {
		fs.AddFlagSet(set)
	}
	return fs
}

// Parse parses arguments of the form name=value, with or without dashes, in
// their order. A list flag that is given twice is appended to.
func Parse(fs *pflag.FlagSet, args []string) error {
	for _, a := range args {
		if err := fs.Parse([]string{"--" + strings.TrimLeft(a, "-")}); err != nil {
			return err
		}
	}
	return nil
}

// Name is the name of the flag that an argument sets.
func Name(arg string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return name
}

// Last is the value that the last argument of a name gives, "" without one.
func Last(args []string, name string) string {
	value := ""
	for _, a := range args {
		if n, v, ok := strings.Cut(strings.TrimLeft(a, "-"), "="); ok && n == name {
			value = v
		}
	}
	return value
}

// Prefixes renders networks as upstream's flags take them.
func Prefixes(prefixes []netip.Prefix) string {
	parts := make([]string, len(prefixes))
	for i, p := range prefixes {
		parts[i] = p.String()
	}
	return strings.Join(parts, ",")
}
