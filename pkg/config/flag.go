package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kind is what a flag takes.
type Kind int

// The kinds of flags.
const (
	KindString Kind = iota // one value
	KindBool               // true or false, true when bare on the command line
	KindInt                // a whole number
	KindList               // any number of values
)

// String names the kind in the reference documentation.
func (k Kind) String() string {
	switch k {
	case KindBool:
		return "boolean"
	case KindInt:
		return "number"
	case KindList:
		return "list"
	default:
		return "string"
	}
}

// Flag describes one setting. The table that Flags returns is the only place
// where settings are defined: the command line, the keys of configuration
// files, SKIFF_* variables, --help, shell completion, `skiff config show` and
// docs/flags.md are all made from it.
type Flag struct {
	Name     string
	Aliases  []string // one-letter names on the command line
	EnvAlias []string // variables beside SKIFF_<NAME>, as k3s has them
	Category string
	Usage    string
	// Metavar stands for the value in help texts.
	Metavar string
	// Default is written as in a file; the items of a list are separated
	// by commas.
	Default string
	// DefaultNote says what holds when Default is empty.
	DefaultNote string
	// Values are the only ones allowed; completion offers them.
	Values []string
	// Path marks names of files and directories: relative ones are taken
	// from the working directory on the command line and refused elsewhere.
	Path bool
	// Whole marks lists whose items may contain commas.
	Whole bool
	// Secret values are never shown.
	Secret bool
	// Discreet says of a secret that check never quotes it, so that its
	// messages may be shown.
	Discreet bool
	// For says which commands have the flag.
	For Role

	// field is where the value goes; nil for --config, which is gone once
	// files are read.
	field func(*Server) any
	// check judges one value (one item of a list).
	check func(text string) error
	// canon rewrites one value into the form that the rest of Skiff expects.
	canon func(text string) string
}

// Kind is what the flag takes.
func (f Flag) Kind() Kind {
	if f.field == nil {
		return KindString
	}
	var probe Server
	switch f.field(&probe).(type) {
	case *bool:
		return KindBool
	case *int:
		return KindInt
	case *[]string, *[]netip.Addr, *[]netip.Prefix, *map[string]string:
		return KindList
	case *string, *Secret, *netip.Addr, *fs.FileMode, *time.Duration:
		return KindString
	default:
		// A row of the table with a field of a new type; every test of
		// this package would fail here.
		panic(fmt.Sprintf("flag %s: decode.go does not know the type of its field", f.Name))
	}
}

// Env lists the environment variables of the flag, the strongest first.
func (f Flag) Env() []string {
	return append([]string{envName(f.Name)}, f.EnvAlias...)
}

func envName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// DefaultText is what help texts say about the default; empty when there is
// nothing to say.
func (f Flag) DefaultText() string {
	if f.Default != "" {
		return f.Default
	}
	return f.DefaultNote
}

// EnvPrefix begins the name of every environment variable of Skiff.
const EnvPrefix = "SKIFF_"

// Categories in the order in which help texts and documentation have them.
const (
	CategoryConfig     = "Configuration and logging"
	CategoryCluster    = "Joining"
	CategoryListener   = "API listener"
	CategoryData       = "Data"
	CategoryNetwork    = "Cluster network"
	CategoryKubeconfig = "Kubeconfig"
	CategoryComponents = "Components"
	CategoryNode       = "Node"
	CategoryRuntime    = "Container runtime"
)

// Flags is the table of all settings, in the order in which they are shown. It
// is made anew by each call.
func Flags() []Flag {
	var all []Flag
	for _, part := range [][]Flag{
		configFlags(), joinFlags(), listenerFlags(), dataFlags(), snapshotFlags(), networkFlags(), kubeconfigFlags(),
		componentFlags(), nodeFlags(), runtimeFlags(),
	} {
		all = append(all, part...)
	}
	return all
}

// FlagsFor is the part of the table that the commands of a role have.
func FlagsFor(role Role) []Flag {
	return slices.DeleteFunc(Flags(), func(f Flag) bool { return f.For&role == 0 })
}

// Categories lists the categories in the order of the table.
func Categories() []string {
	var names []string
	for _, f := range Flags() {
		if len(names) == 0 || names[len(names)-1] != f.Category {
			names = append(names, f.Category)
		}
	}
	return names
}

// in completes flags: their category, and that they are a server's unless they
// say otherwise.
func in(category string, flags []Flag) []Flag {
	for i := range flags {
		flags[i].Category = category
		if flags[i].For == 0 {
			flags[i].For = ForServer
		}
	}
	return flags
}

// everywhere makes flags those of servers and agents.
func everywhere(flags []Flag) []Flag {
	for i := range flags {
		flags[i].For = ForServer | ForAgent
	}
	return flags
}
