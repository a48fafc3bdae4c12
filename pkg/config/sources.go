package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func (l *loader) fromFiles() {
	path, asked := l.configFile()
	files, entries, problems := readFiles(path, asked)
	l.files = files
	l.problems = append(l.problems, problems...)
	l.values[ConfigFlag] = []value{{text: path, origin: asked}}
	for _, e := range entries {
		l.merge(e)
	}
}

func (l *loader) merge(e entry) {
	f, known := l.byName[e.key]
	switch {
	case !known:
		l.unknownKey(e)
		return
	case e.key == ConfigFlag:
		l.report(Problem{Origin: e.origin, Key: e.key, Message: "a configuration file cannot name another",
			Fix: "put further files into " + l.values[ConfigFlag][0].text + ".d"})
		return
	case e.list && f.Kind() != KindList:
		l.report(Problem{Origin: e.origin, Key: e.key, Message: "it is a list, where one value is wanted", Fix: "write " + example(*f)})
		return
	case e.add && f.Kind() != KindList:
		l.report(Problem{Origin: e.origin, Key: e.key + "+", Message: "only lists can be added to", Fix: "write " + example(*f)})
		return
	}
	values := e.values
	if f.Kind() == KindList {
		values = splitItems(*f, values)
	}
	switch {
	case e.add:
		l.set(e.key, append(slices.Clip(l.values[e.key]), values...))
	case f.Kind() != KindList && !e.null && values[0].text == "":
		l.set(e.key, nil)
	default:
		l.set(e.key, values)
	}
}

// set replaces what was said for a flag; nothing means the default again.
func (l *loader) set(name string, values []value) {
	if len(values) == 0 {
		delete(l.values, name)
		return
	}
	l.values[name] = values
}

func (l *loader) unknownKey(e entry) {
	var names []string
	for _, f := range l.flags {
		if f.Name != ConfigFlag {
			names = append(names, f.Name)
		}
		if slices.Contains(f.Aliases, e.key) {
			l.report(Problem{Origin: e.origin, Key: e.key, Message: "short names are for the command line", Fix: "write " + f.Name})
			return
		}
	}
	switch f := otherRole(l.in.Role, e.key); {
	case f != nil:
		// One file may serve all machines of a cluster.
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s is for skiff %s and has no effect here", e.origin, e.key, f.For))
		return
	}
	for _, f := range ForeignFlags() {
		if f.Name == e.key {
			if e.null || !f.harmless(rawTexts(e.values)) {
				l.report(f.problem(e.origin))
			}
			return
		}
	}
	p := Problem{Origin: e.origin, Key: e.key, Message: "there is no such setting", Fix: "see skiff " + l.in.Role.String() + " --help"}
	if near := Suggest(e.key, names); near != "" {
		p.Fix = "did you mean " + near + "?"
	}
	l.report(p)
}

func (l *loader) fromCommandLine() {
	for name := range l.in.Flags {
		f := otherRole(l.in.Role, name)
		switch origin := (Origin{Source: FromFlag, Name: name}); {
		case f != nil:
			l.report(Problem{Origin: origin, Key: name, Message: "this is a setting of skiff " + f.For.String(), Fix: "leave it out"})
		}
	}
	for _, f := range ForeignFlags() {
		if given, set := l.in.Flags[f.Name]; set && !f.harmless(given) {
			l.report(f.problem(Origin{Source: FromFlag, Name: f.Name}))
		}
	}
	for _, f := range l.flags {
		given := l.in.Flags[f.Name]
		if f.Name == ConfigFlag || len(given) == 0 {
			continue
		}
		origin := Origin{Source: FromFlag, Name: f.Name}
		if f.Kind() != KindList {
			l.set(f.Name, []value{{text: given[len(given)-1], origin: origin}})
			continue
		}
		var values []value
		for _, text := range given {
			values = append(values, value{text: text, origin: origin})
		}
		l.set(f.Name, splitItems(f, values))
	}
}

// splitItems splits values of lists at commas, where the list allows it, and
// drops empty items.
func splitItems(f Flag, values []value) []value {
	items := []value{}
	for _, v := range values {
		parts := []string{v.text}
		if !f.Whole {
			parts = strings.Split(v.text, ",")
		}
		for _, part := range parts {
			if part = strings.TrimSpace(part); part != "" {
				items = append(items, value{part, v.origin, v.path})
			}
		}
	}
	return items
}

func rawTexts(values []value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.text
	}
	return out
}

func example(f Flag) string {
	text := f.Default
	switch {
	case f.Kind() == KindBool:
		text = "true"
	case text == "":
		text = "VALUE"
	}
	return f.Name + ": " + text
}

func (l *loader) hostname() (string, error) {
	if l.in.Hostname != nil {
		return l.in.Hostname()
	}
	return os.Hostname()
}

// absolute makes a path of the command line independent of the directory that
// the process is in; a URL is left to be refused as what it is.
func absolute(path string) string {
	if strings.Contains(path, "://") {
		return path
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (l *loader) fromEnv() {
	known := map[string]bool{}
	for _, f := range Flags() {
		for _, name := range f.Env() {
			known[name] = true // an agent's environment may have a server's, too
		}
	}
	for _, f := range l.flags {
		names := f.Env()
		for i, name := range names {
			if text := l.env[name]; text != "" && f.Name != ConfigFlag && !anySet(l.env, names[:i]) {
				l.set(f.Name, envValues(f, text, Origin{Source: FromEnv, Name: name}))
			}
		}
	}
	for _, f := range ForeignFlags() {
		for _, name := range f.env() {
			known[name] = true
			if text := l.env[name]; text != "" && !f.harmless([]string{text}) {
				l.report(f.problem(Origin{Source: FromEnv, Name: name}))
			}
		}
	}
	l.warnUnknownEnv(known)
}

func anySet(env map[string]string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return env[name] != "" })
}

// envValues splits the items of a list at commas, or, where items may contain
// commas, at line breaks.
func envValues(f Flag, text string, origin Origin) []value {
	if f.Kind() != KindList {
		return []value{{text: text, origin: origin}}
	}
	var values []value
	for line := range strings.Lines(text) {
		values = append(values, value{text: line, origin: origin})
	}
	return splitItems(f, values)
}

// warnUnknownEnv does not refuse to start: the environment is not only ours.
// In a pod beside a Service called skiff there are SKIFF_PORT and others.
func (l *loader) warnUnknownEnv(known map[string]bool) {
	var names, candidates []string
	for name := range l.env {
		if !known[name] && !strings.HasPrefix(name, "SKIFF_PORT") && !strings.HasPrefix(name, "SKIFF_SERVICE_") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	for _, f := range l.flags {
		candidates = append(candidates, f.Name)
	}
	slices.Sort(names)
	for _, name := range names {
		message := fmt.Sprintf("the environment variable %s is none of Skiff's and has no effect", name)
		if near := Suggest(strings.TrimPrefix(name, EnvPrefix), candidates); near != "" {
			message += fmt.Sprintf("; did you mean %s?", l.byName[near].Env()[0])
		}
		l.warnings = append(l.warnings, message)
	}
}
