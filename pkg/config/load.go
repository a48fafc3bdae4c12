package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Given is what the command line said: the texts given for each long flag
// name, in their order.
type Given map[string][]string

// Input is all that Load looks at. The zero value of each field is usable.
type Input struct {
	// Role is the command that is configured; zero: ForServer.
	Role  Role
	Flags Given
	// Environ is the environment as NAME=VALUE, like os.Environ.
	Environ []string
	// ConfigFile is read when neither flag nor variable names another;
	// empty: layout's. It may be missing.
	ConfigFile string
	// Hostname gives the node's name when none is set; nil: os.Hostname.
	Hostname func() (string, error)
}

// Effective is a valid configuration and where it came from.
type Effective struct {
	// Server is what a server is told, Agent what an agent is; the other is
	// empty.
	Server Server
	Agent  Agent
	// Settings has every setting in the order of the flag table.
	Settings []Setting
	// Files are the configuration files that were read, in their order.
	Files []string
	// Warnings are for the log: things that are odd but not wrong.
	Warnings []string
}

// Setting is the effective value of one flag.
type Setting struct {
	Flag Flag
	// Value is a string, a bool, an int or a list of strings; a list is the
	// reader's own.
	Value any
	// Origins has the place of a value, or of each item of a list; a single
	// FromDefault when nobody set it.
	Origins []Origin
}

// Load reads files, environment and flags into a valid configuration. Flags
// beat variables, variables beat files, a later file beats an earlier one; a
// list is replaced whole, unless a file says key+. When something is wrong the
// error is of type Problems and has all of it.
func Load(in Input) (*Effective, error) {
	in.Role = cmp.Or(in.Role, ForServer)
	l := &loader{in: in, env: environment(in.Environ), flags: FlagsFor(in.Role), values: map[string][]value{}}
	l.byName = map[string]*Flag{}
	for i := range l.flags {
		l.byName[l.flags[i].Name] = &l.flags[i]
	}
	l.fromFiles()
	l.fromEnv()
	l.fromCommandLine()
	l.decode()
	l.derive()
	l.validate()
	if len(l.problems) > 0 {
		return nil, l.sorted()
	}
	effective := &Effective{Settings: l.settings(), Files: l.files, Warnings: l.warnings}
	if in.Role == ForAgent {
		effective.Agent = l.server.agent()
	} else {
		effective.Server = l.server
	}
	return effective, nil
}

// loader is the state of one Load.
type loader struct {
	in     Input
	env    map[string]string
	flags  []Flag
	byName map[string]*Flag

	files    []string
	values   map[string][]value // what each flag was set to; absent: not set
	server   Server             // also for agents, who use some of its fields
	problems Problems
	warnings []string
	// broken are flags whose value could not be understood: nothing that
	// follows from them is looked at.
	broken map[string]bool
}

func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, pair := range environ {
		// An empty variable is one that somebody meant to unset.
		if name, text, ok := strings.Cut(pair, "="); ok && text != "" && strings.HasPrefix(name, EnvPrefix) {
			env[name] = text
		}
	}
	return env
}

func (l *loader) report(p Problem) { l.problems = append(l.problems, p) }

// configFile is the main file and who named it.
func (l *loader) configFile() (string, Origin) {
	f := l.byName[ConfigFlag]
	if given := l.in.Flags[ConfigFlag]; len(given) > 0 {
		return absolute(given[len(given)-1]), Origin{Source: FromFlag, Name: ConfigFlag}
	}
	for _, name := range f.Env() {
		if path := l.env[name]; path != "" {
			return path, Origin{Source: FromEnv, Name: name}
		}
	}
	if l.in.ConfigFile != "" {
		return l.in.ConfigFile, Origin{}
	}
	return layout.Default().ConfigFile(), Origin{}
}

// sorted orders problems as they are met when reading: files in their order
// and by line, then the environment, then the command line.
func (l *loader) sorted() Problems {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		rank := func(o Origin) int {
			if o.Source == FromDefault {
				return int(FromFlag) + 1
			}
			return int(o.Source)
		}
		return cmp.Or(
			cmp.Compare(rank(a.Origin), rank(b.Origin)),
			cmp.Compare(slices.Index(l.files, a.Origin.Name), slices.Index(l.files, b.Origin.Name)),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
		)
	})
	return l.problems
}
