package policy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// inits allows an init function to fill in the registers of other packages and
// nothing else: imports must not make a program do things.
func inits(all []source) []string {
	var problems []string
	for _, s := range all {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "init" || f.Recv != nil {
				continue
			}
			for _, stmt := range f.Body.List {
				if !registers(stmt) {
					problems = append(problems, fmt.Sprintf("%s: an init function may only call Register or SetProvider or set a variable of an imported package: do this in a constructor", s.at(stmt)))
				}
			}
		}
	}
	return problems
}

func registers(stmt ast.Stmt) bool {
	switch stmt := stmt.(type) {
	case *ast.ExprStmt:
		call, ok := stmt.X.(*ast.CallExpr)
		if !ok {
			return false
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		return ok && (strings.Contains(selector.Sel.Name, "Register") || selector.Sel.Name == "SetProvider")
	case *ast.AssignStmt:
		_, ok := stmt.Lhs[0].(*ast.SelectorExpr)
		return ok
	}
	return false
}

// changing holds package variables ("path name") that change, and why.
func changing() map[string]string {
	return map[string]string{
		"pkg/version/version.go Version":    "set by the linker",
		"pkg/version/version.go Commit":     "set by the linker",
		"pkg/version/version.go Kubernetes": "set by the linker",
		"pkg/kube/globals/globals.go applied": "Kubernetes' own process-wide state is set once; " +
			"a second call has to be refused, not repeated",
	}
}

// variables allows package variables that are tables, errors, patterns and
// embedded files, as long as nothing in the package assigns to them.
func variables(all []source) []string {
	var problems []string
	for _, files := range packages(all) {
		declared := map[string]bool{}
		for _, s := range files {
			if s.test {
				continue
			}
			for _, v := range packageVariables(s) {
				declared[v.name.Name] = true
				if !v.constant && changing()[s.path+" "+v.name.Name] == "" {
					problems = append(problems, fmt.Sprintf("%s: the package variable %s can change: make it a constant, a function, or a field of what New returns", s.at(v.name), v.name.Name))
				}
			}
		}
		for _, s := range files {
			if !s.test {
				problems = append(problems, assignments(s, declared)...)
			}
		}
	}
	return problems
}

type variable struct {
	name     *ast.Ident
	constant bool // by the look of its value
}

func packageVariables(s source) []variable {
	var all []variable
	for _, d := range s.file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.VAR {
			continue
		}
		embeds := decl.Doc != nil && slices.ContainsFunc(decl.Doc.List, func(c *ast.Comment) bool {
			return strings.HasPrefix(c.Text, "//go:embed ")
		})
		for _, spec := range decl.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, name := range v.Names {
				if name.Name == "_" {
					continue
				}
				constant := embeds || v.Doc != nil && strings.Contains(v.Doc.List[len(v.Doc.List)-1].Text, "go:embed ")
				if i < len(v.Values) {
					constant = constant || looksConstant(v.Values[i])
				}
				all = append(all, variable{name, constant})
			}
		}
	}
	return all
}

// makers are functions whose results nobody changes.
func makers() []string {
	return []string{
		"errors.New", "fmt.Errorf", "regexp.MustCompile", "time.Date", "strings.NewReplacer",
		"netip.MustParseAddr", "netip.MustParsePrefix", "template.Must", "resource.MustParse", "append",
	}
}

func looksConstant(value ast.Expr) bool {
	switch value := value.(type) {
	case *ast.CompositeLit, *ast.BasicLit, *ast.FuncLit:
		return true
	case *ast.UnaryExpr:
		return value.Op == token.SUB
	case *ast.SelectorExpr:
		return true // another package's
	case *ast.CallExpr:
		if _, conversion := value.Fun.(*ast.ArrayType); conversion {
			return true
		}
		name := callee(value)
		return slices.Contains(makers(), name) || slices.ContainsFunc([]string{".WithResource", ".GroupVersion"}, func(end string) bool { return strings.HasSuffix(name, end) })
	}
	return false
}

// callee is "package.Function", "function", or ".Method".
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	}
	return ""
}

// assignments finds places that change a variable of the package, or a part of
// one.
func assignments(s source, declared map[string]bool) []string {
	var problems []string
	changed := func(target ast.Expr) {
		name := rootName(target)
		if name == nil || !declared[name.Name] || !packageScope(s, name) {
			return
		}
		problems = append(problems, fmt.Sprintf("%s: this changes the package variable %s: keep what changes in a value that New returns", s.at(target), name.Name))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, target := range n.Lhs {
					changed(target)
				}
			}
		case *ast.IncDecStmt:
			changed(n.X)
		case *ast.CallExpr:
			if name := callee(n); (name == "delete" || name == "clear") && len(n.Args) > 0 {
				changed(n.Args[0])
			}
		}
		return true
	})
	return problems
}

// rootName is x of x, x.y, x[i] and *x.
func rootName(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// packageScope says that a name is not a local one of the same spelling. The
// parser resolves names within a file and leaves those of other files open.
func packageScope(s source, name *ast.Ident) bool {
	return name.Obj == nil || s.file.Scope.Lookup(name.Name) == name.Obj
}

// forbidden are calls by which a package would decide for the whole process.
type forbidden struct {
	call  string
	where []string // where it is right
	mend  string
}

func forbiddenCalls() []forbidden {
	mains := []string{"."}
	exit := "return an error; main decides how the process ends"
	environment := "environment, directory and mask belong to main: take the value by the constructor, or set it for the child process"
	return []forbidden{
		{"os.Exit", mains, exit},
		{"syscall.Exit", mains, exit},
		{"log.Fatal", nil, exit},
		{"log.Fatalf", nil, exit},
		{"logrus.Fatal", nil, exit},
		{"logrus.Fatalf", nil, exit},
		{"klog.Fatal", nil, exit},
		{"klog.Fatalf", nil, exit},
		{"os.Setenv", []string{".", "cmd"}, environment},
		{"os.Unsetenv", []string{".", "cmd"}, environment},
		{"os.Chdir", mains, environment},
		{"syscall.Umask", mains, environment},
		{"unix.Umask", mains, environment},
		{"time.Sleep", nil, "wait for what has to happen: a channel, a watch, or a timer in a select with ctx.Done()"},
	}
}

func processCalls(all []source) []string {
	var problems []string
	for _, s := range all {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := callee(call)
			for _, f := range forbiddenCalls() {
				isMain := s.file.Name.Name == "main" && slices.Contains(f.where, ".")
				if name == f.call && !isMain && !allowed(s.dir, f.where) {
					problems = append(problems, fmt.Sprintf("%s: %s must not call %s: %s", s.at(call), s.dir, name, f.mend))
				}
			}
			return true
		})
	}
	return problems
}
