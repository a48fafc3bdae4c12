package policy

import (
	"fmt"
	"go/ast"
)

// What is longer hides something; most files have 90 lines, most functions 15.
const (
	fileLines     = 500
	functionLines = 80
)

// long holds files ("path") and functions ("path name") that may be longer, and
// why. It should be empty.
func long() map[string]string { return map[string]string{} }

func sizes(all []source) []string {
	var problems []string
	for _, s := range all {
		if s.test {
			continue
		}
		if n := s.fset.File(s.file.Pos()).LineCount(); n > fileLines && long()[s.path] == "" {
			problems = append(problems, fmt.Sprintf("%s has %d lines, at most %d are allowed: split it by what its parts are for", s.path, n, fileLines))
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.lines(f); n > functionLines && long()[s.path+" "+f.Name.Name] == "" {
				problems = append(problems, fmt.Sprintf("%s: %s has %d lines, at most %d are allowed: give its steps names of their own", s.at(f), f.Name.Name, n, functionLines))
			}
		}
	}
	return problems
}
