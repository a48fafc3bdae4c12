package policy

import (
	"strings"
	"testing"
)

// TestRules breaks every rule once: a rule that finds nothing proves nothing.
func TestRules(t *testing.T) {
	tests := []struct {
		name  string
		check rule
		files map[string]string // path to source
		want  string            // part of the one problem; "" for none
	}{
		{"a package without a comment", packageDocs, map[string]string{"pkg/a/a.go": "package a"}, "pkg/a has no package comment"},
		{"a package with two", packageDocs, map[string]string{"pkg/a/a.go": "// Package a does x.\npackage a", "pkg/a/b.go": "// Package a does y.\npackage a"}, "keep one"},
		{"a package comment with another name", packageDocs, map[string]string{"pkg/a/a.go": "// Package b does x.\npackage a"}, "has to begin with"},
		{"a package of tests alone needs one, too", packageDocs, map[string]string{"tests/a/a_test.go": "package a"}, "has no package comment"},
		{"a documented package", packageDocs, map[string]string{"pkg/a/a.go": "// Package a does x.\npackage a", "pkg/a/a_test.go": "package a"}, ""},

		{"an exported function without a comment", exportedDocs, map[string]string{"pkg/a/a.go": "package a\nfunc F() {}"}, "pkg/a/a.go:2: F is exported without a comment"},
		{"an exported method of a pointer", exportedDocs, map[string]string{"pkg/a/a.go": "package a\nfunc (x *T) F() {}"}, "F is exported"},
		{"an exported method of a type that is not", exportedDocs, map[string]string{"pkg/a/a.go": "package a\nfunc (x *t) F() {}"}, ""},
		{"an exported type", exportedDocs, map[string]string{"pkg/a/a.go": "package a\ntype T int"}, "T is exported"},
		{"constants under one comment", exportedDocs, map[string]string{"pkg/a/a.go": "package a\n// States.\nconst (\nA = 1\nB = 2\n)"}, ""},

		{"a note to oneself", leftovers, map[string]string{"pkg/a/a.go": "package a\n// TODO: later\n"}, "pkg/a/a.go:2"},
		{"a package called util", packageNames, map[string]string{"pkg/util/a.go": "package util"}, "which says nothing"},

		{"a component that imports a component", layers, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"" + module + "/pkg/network\""}, "must not import pkg/network"},
		{"a component that imports its sibling", layers, map[string]string{"pkg/datastore/etcd/a.go": "package etcd\nimport _ \"" + module + "/pkg/datastore/sqlite\""}, "must not import"},
		{"a component that imports its own part", layers, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"" + module + "/pkg/dns/zone\""}, ""},
		{"a component that imports the wiring", layers, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"" + module + "/pkg/server\""}, "must not import pkg/server"},
		{"a component of Kubernetes and the way to the API", layers, map[string]string{"pkg/kube/scheduler/a.go": "package scheduler\nimport _ \"" + module + "/pkg/kube/inproc\""}, ""},
		{"the agent that imports the server", layers, map[string]string{"pkg/agent/a.go": "package agent\nimport _ \"" + module + "/pkg/server\""}, "must not import pkg/server"},
		{"the server that imports the agent", layers, map[string]string{"pkg/server/a.go": "package server\nimport _ \"" + module + "/pkg/agent\""}, ""},
		{"the ground that imports data", layers, map[string]string{"pkg/component/a.go": "package component\nimport _ \"" + module + "/pkg/config\""}, "must not import pkg/config"},
		{"a command that imports a test", layers, map[string]string{"cmd/a.go": "package cmd\nimport _ \"" + module + "/tests/framework\""}, "must not import tests/framework"},

		{"Kubernetes outside its place", libraries, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"k8s.io/kubernetes/pkg/proxy\""}, "use client-go"},
		{"Kubernetes in its place", libraries, map[string]string{"pkg/kube/proxy/a.go": "package proxy\nimport _ \"k8s.io/kubernetes/pkg/proxy\""}, ""},
		{"a framework in a ground package", libraries, map[string]string{"pkg/component/a.go": "package component\nimport _ \"github.com/sirupsen/logrus\""}, "keeps to the standard library"},
		{"signals in a package", libraries, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"os/signal\""}, "take a ctx"},
		{"signals in main", libraries, map[string]string{"main.go": "package main\nimport _ \"os/signal\""}, ""},
		{"test code in a program", libraries, map[string]string{"pkg/dns/a.go": "package dns\nimport _ \"testing\""}, "does not carry its tests"},

		{"a long file", sizes, map[string]string{"pkg/a/a.go": "package a\n" + strings.Repeat("\n", fileLines)}, "split it"},
		{"a long function", sizes, map[string]string{"pkg/a/a.go": "package a\nfunc f() {\n" + strings.Repeat("\n", functionLines) + "}"}, "f has 82 lines"},
		{"a long test", sizes, map[string]string{"pkg/a/a_test.go": "package a\nfunc f() {\n" + strings.Repeat("\n", functionLines) + "}"}, ""},

		{"an init that does things", inits, map[string]string{"pkg/a/a.go": "package a\nfunc init() { connect() }"}, "do this in a constructor"},
		{"an init that sets a variable of its own", inits, map[string]string{"pkg/a/a.go": "package a\nfunc init() { x = 1 }"}, "do this in a constructor"},
		{"an init that registers", inits, map[string]string{"pkg/a/a.go": "package a\nfunc init() { plugin.Register(1); server.Order = nil }"}, ""},

		{"a variable without a value", variables, map[string]string{"pkg/a/a.go": "package a\nvar x int"}, "the package variable x can change"},
		{"a variable with a lock", variables, map[string]string{"pkg/a/a.go": "package a\nvar x = new(sync.Mutex)"}, "can change"},
		{"an error, a pattern and a table", variables, map[string]string{"pkg/a/a.go": "package a\nvar e = errors.New(\"x\")\nvar p = regexp.MustCompile(\"x\")\nvar t = map[string]int{\"a\": 1}\nvar _ I = t{}"}, ""},
		{"an embedded file", variables, map[string]string{"pkg/a/a.go": "package a\n//go:embed x\nvar x embed.FS"}, ""},
		{"a table that another file changes", variables, map[string]string{"pkg/a/a.go": "package a\nvar t = map[string]int{}", "pkg/a/b.go": "package a\nfunc f() { t[\"a\"] = 1 }"}, "pkg/a/b.go:2: this changes the package variable t"},
		{"a table that the same file shrinks", variables, map[string]string{"pkg/a/a.go": "package a\nvar t = map[string]int{}\nfunc f() { delete(t, \"a\") }"}, "this changes"},
		{"a local variable of the same name", variables, map[string]string{"pkg/a/a.go": "package a\nvar t = map[string]int{}\nfunc f() { var t int; t = 1; _ = t }"}, ""},

		{"an exit in a package", processCalls, map[string]string{"pkg/a/a.go": "package a\nfunc f() { os.Exit(1) }"}, "main decides"},
		{"an exit in main", processCalls, map[string]string{"main.go": "package main\nfunc main() { os.Exit(1) }"}, ""},
		{"a sleep, even in main", processCalls, map[string]string{"main.go": "package main\nfunc main() { time.Sleep(1) }"}, "wait for what has to happen"},
		{"a sleep in a test", processCalls, map[string]string{"pkg/a/a_test.go": "package a\nfunc f() { time.Sleep(1) }"}, ""},
		{"an environment variable set in a component", processCalls, map[string]string{"pkg/a/a.go": "package a\nfunc f() { os.Setenv(\"A\", \"\") }"}, "belong to main"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []source
			for path, text := range tt.files {
				s, err := parse(path, text)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, s)
			}
			got := tt.check(all)
			if tt.want == "" && len(got) != 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("found %q, want one problem with %q", got, tt.want)
			}
		})
	}
}
