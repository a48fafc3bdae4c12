package cmd

import (
	"flag"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/config"
)

const helpName = "help"

// flagValue makes a value of the flag package of a function. It has no text of
// its own, which keeps urfave/cli from acting upon it.
type flagValue struct {
	set  func(text string) error
	bare bool
}

func (v flagValue) Set(text string) error { return v.set(text) }
func (v flagValue) String() string        { return "" }
func (v flagValue) IsBoolFlag() bool      { return v.bare }

// settingFlag is a row of the flag table on the command line. It only takes
// down what was written; config.Load judges it together with files and
// environment.
type settingFlag struct {
	config.Flag
	given   config.Given
	foreign bool // a flag that the command has not
	bare    bool // needs no value
}

// Names leaves the aliases out: urfave/cli would copy values between them.
func (f *settingFlag) Names() []string { return []string{f.Name} }
func (f *settingFlag) IsSet() bool     { return len(f.given[f.Name]) > 0 }
func (f *settingFlag) String() string  { return dashed(f.Name) }

func (f *settingFlag) Apply(set *flag.FlagSet) error {
	value := flagValue{bare: f.bare, set: func(text string) error {
		f.given[f.Name] = append(f.given[f.Name], text)
		return nil
	}}
	for _, name := range append(f.Names(), f.Aliases...) {
		set.Var(value, name, f.Usage)
	}
	return nil
}

// settingFlags is the flag table, filling given, without the aliases that the
// command uses itself. The other role's flags and k3s' are understood too, so
// that config can say what there is to say about them.
func settingFlags(role config.Role, given config.Given, without ...string) []cli.Flag {
	var flags []cli.Flag
	for _, f := range config.Flags() {
		if f.For&role == 0 {
			flags = append(flags, &settingFlag{Flag: config.Flag{Name: f.Name}, given: given, foreign: true, bare: f.Kind() == config.KindBool})
			continue
		}
		f.Aliases = slices.DeleteFunc(slices.Clone(f.Aliases), func(alias string) bool { return slices.Contains(without, alias) })
		flags = append(flags, &settingFlag{Flag: f, given: given, bare: f.Kind() == config.KindBool})
	}
	for _, f := range config.ForeignFlags() {
		flags = append(flags, &settingFlag{Flag: config.Flag{Name: f.Name, Aliases: f.Aliases}, given: given, foreign: true, bare: f.Bool})
	}
	return flags
}

// chosenFlags are those of a server's settings that a command has, filling
// given.
func chosenFlags(given config.Given, has func(config.Flag) bool) []cli.Flag {
	var flags []cli.Flag
	for _, f := range config.FlagsFor(config.ForServer) {
		if has(f) {
			flags = append(flags, &settingFlag{Flag: f, given: given, bare: f.Kind() == config.KindBool})
		}
	}
	return flags
}

// switchFlag is --help. It is no flag of urfave/cli's, which would print its
// own help when it sees one.
type switchFlag struct {
	name, alias, usage string
	on                 *bool
}

func helpFlag() *switchFlag {
	return &switchFlag{name: helpName, alias: "h", usage: "show this help", on: new(bool)}
}

func (f *switchFlag) Names() []string { return []string{f.name} }
func (f *switchFlag) IsSet() bool     { return *f.on }
func (f *switchFlag) String() string  { return dashed(f.name) }

func (f *switchFlag) Apply(set *flag.FlagSet) error {
	value := flagValue{bare: true, set: func(text string) (err error) {
		*f.on, err = strconv.ParseBool(text)
		return err
	}}
	set.Var(value, f.name, f.usage)
	set.Var(value, f.alias, f.usage)
	return nil
}

// outputFlag is -o for commands that print data; formats are separated by
// commas, and completion offers them from DefaultText.
func outputFlag(formats string) *cli.StringFlag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "format: " + formats, DefaultText: formats}
}
