package config

import (
	"fmt"
	"strings"
)

// Source is the kind of place that a value comes from, weakest first.
type Source int

// The sources, in the order in which a later one beats an earlier one.
const (
	FromDefault Source = iota
	FromFile
	FromEnv
	FromFlag
)

// Origin is the place where a value was written.
type Origin struct {
	Source Source
	// Name is the file's path, the variable's or the flag's name.
	Name string
	// Line is the line in a file, counted from 1; 0 elsewhere.
	Line int
}

// String is how the place is named to people: "default", "/path:12",
// "$SKIFF_DEBUG", "--debug".
func (o Origin) String() string {
	switch o.Source {
	case FromFile:
		if o.Line > 0 {
			return fmt.Sprintf("%s:%d", o.Name, o.Line)
		}
		return o.Name
	case FromEnv:
		return "$" + o.Name
	case FromFlag:
		return "--" + o.Name
	default:
		return "default"
	}
}

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	Origin Origin
	// Key is the path of the value, "node-label[2]"; empty when a whole file
	// is meant.
	Key string
	// Message says what is wrong, Fix how to mend it (may be empty).
	Message string
	Fix     string
}

// Error is the problem on one line: where, what, how to mend.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.where())
	b.WriteString(": ")
	b.WriteString(p.Message)
	if p.Fix != "" {
		b.WriteString("; ")
		b.WriteString(p.Fix)
	}
	return b.String()
}

func (p Problem) where() string {
	switch {
	case p.Key == "":
		return p.Origin.String()
	case p.Origin.Source == FromFile:
		return p.Origin.String() + ": " + p.Key
	case p.Origin.Source == FromDefault:
		return "--" + p.Key
	default:
		return p.Origin.String()
	}
}

// Problems is every problem of a configuration, in the order of the flag table.
type Problems []Problem

// Error has one problem per line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// invalid is an error about one value, with the way to mend it kept apart.
type invalid struct{ message, fix string }

func (e *invalid) Error() string {
	if e.fix == "" {
		return e.message
	}
	return e.message + "; " + e.fix
}

// invalidf makes an invalid; fix comes first so that it reads like printf.
func invalidf(fix, format string, args ...any) error {
	return &invalid{message: fmt.Sprintf(format, args...), fix: fix}
}
