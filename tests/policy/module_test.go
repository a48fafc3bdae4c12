// Package policy holds the rules of this repository that a machine can check:
// documentation, who may import whom, sizes, and what a package must not do to
// the process. It reads sources only, so it needs neither root nor a build.
// Each message says the rule and how to mend it; where an exception is right,
// the list next to the rule takes it, with its reason.
package policy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path in go.mod.
const module = "github.com/skiff-k8s/skiff"

// source is one parsed Go file.
type source struct {
	path string // from the root of the repository, with slashes
	dir  string // "." for the root
	test bool   // part of a test: *_test.go, or made only for tests
	file *ast.File
	fset *token.FileSet
}

func (s source) line(n ast.Node) int { return s.fset.Position(n.Pos()).Line }

// at is where a node is, as editors understand it.
func (s source) at(n ast.Node) string { return fmt.Sprintf("%s:%d", s.path, s.line(n)) }

// lines is how many lines a node has.
func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.line(n) + 1
}

// imports are the paths that the file imports.
func (s source) imports() map[string]*ast.ImportSpec {
	m := map[string]*ast.ImportSpec{}
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			m[p] = spec
		}
	}
	return m
}

// within says whether dir is root or below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}

func withinAny(dir string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return within(dir, root) })
}

func parse(name string, src any) (source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	dir := path.Dir(name)
	return source{
		path: name,
		dir:  dir,
		test: strings.HasSuffix(name, "_test.go") || within(dir, "tests") || strings.HasSuffix(dir, "test"),
		file: file,
		fset: fset,
	}, err
}

// repository parses every Go file of the repository.
func repository(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(rel, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), data)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d Go files were found: the rules look at the wrong place", len(all))
	}
	return all
}

// skipped are directories that Go skips, too, and those of build results.
func skipped(rel, name string) bool {
	if rel == "." {
		return false
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
		name == "testdata" || name == "vendor" || rel == "bin" || rel == "dist"
}

// packages groups files by directory.
func packages(all []source) map[string][]source {
	m := map[string][]source{}
	for _, s := range all {
		m[s.dir] = append(m[s.dir], s)
	}
	return m
}

// rule looks at files and says what is wrong, one line per place.
type rule func(all []source) []string

func report(t *testing.T, all []source, rules map[string]rule) {
	t.Helper()
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, problem := range check(all) {
				t.Error(problem)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	all := repository(t)
	report(t, all, map[string]rule{
		"every package says once what it is for and who may import it": packageDocs,
		"everything exported is documented":                            exportedDocs,
		"nothing is left to be done":                                   leftovers,
		"packages are named after what they are":                       packageNames,
		"layers import only what is below them":                        layers,
		"libraries stay where they belong":                             libraries,
		"files and functions stay short":                               sizes,
		"init only registers":                                          inits,
		"package variables do not change":                              variables,
		"the process belongs to main":                                  processCalls,
	})
}
