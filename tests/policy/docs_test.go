package policy

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

func packageDocs(all []source) []string {
	var problems []string
	for dir, files := range packages(all) {
		onlyTests := !slices.ContainsFunc(files, func(s source) bool { return !strings.HasSuffix(s.path, "_test.go") })
		var with []string
		for _, s := range files {
			if s.file.Doc == nil || strings.HasSuffix(s.path, "_test.go") && !onlyTests {
				continue
			}
			with = append(with, s.path)
			if s.file.Name.Name != "main" && !strings.HasPrefix(s.file.Doc.Text(), "Package "+s.file.Name.Name+" ") {
				problems = append(problems, fmt.Sprintf("%s: the package comment has to begin with \"Package %s \"", s.path, s.file.Name.Name))
			}
		}
		switch {
		case len(with) == 0:
			problems = append(problems, fmt.Sprintf("%s has no package comment: say in one file what it is for and who may import it", dir))
		case len(with) > 1:
			problems = append(problems, fmt.Sprintf("%s has package comments in %s: keep one, which is the one people find", dir, strings.Join(with, " and ")))
		}
	}
	return problems
}

func exportedDocs(all []source) []string {
	var problems []string
	missing := func(s source, n ast.Node, name string) {
		problems = append(problems, fmt.Sprintf("%s: %s is exported without a comment: say what it is, its units, when it fails, who may call it at once; or do not export it", s.at(n), name))
	}
	for _, s := range all {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !slices.Contains(selfEvident(), d.Name.Name) {
					missing(s, d, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name := undocumented(d, spec); name != "" {
						missing(s, spec, name)
					}
				}
			}
		}
	}
	return problems
}

// selfEvident are methods that every Go programmer knows.
func selfEvident() []string { return []string{"Error", "Unwrap", "String"} }

// exportedReceiver says whether a function can be found in the documentation:
// it is one, or a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// undocumented is the exported name that a specification gives without a
// comment; a comment on a group of constants or variables counts for all.
func undocumented(d *ast.GenDecl, spec ast.Spec) string {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && d.Doc == nil {
			return spec.Name.Name
		}
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil && d.Tok != token.IMPORT {
				return name.Name
			}
		}
	}
	return ""
}

var leftover = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b|\bfor now\b`)

func leftovers(all []source) []string {
	var problems []string
	for _, s := range all {
		if s.dir == "tests/policy" {
			continue // speaks of them
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if word := leftover.FindString(c.Text); word != "" {
					problems = append(problems, fmt.Sprintf("%s: the comment says %q: finish it, or open an issue and say here what the limit is", s.at(c), word))
				}
			}
		}
	}
	return problems
}

func packageNames(all []source) []string {
	var problems []string
	for dir, files := range packages(all) {
		name := strings.TrimSuffix(files[0].file.Name.Name, "_test")
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "base"}, name) {
			problems = append(problems, fmt.Sprintf("%s is called %s, which says nothing: name a package after what it provides", dir, name))
		}
	}
	return problems
}
