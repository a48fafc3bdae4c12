package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// layer says how high a directory stands. A package imports what is below it;
// docs/architecture.md shows the picture.
//
//	-1 pkg/internal   0 ground   1 data   2 components   3 wiring   4 commands   5 tests
func layer(dir string) int {
	ground := []string{"pkg/version", "pkg/layout", "pkg/component", "pkg/procstart", "pkg/proctitle", "pkg/activity"}
	data := []string{"pkg/config", "pkg/logging", "pkg/token", "pkg/protocol", "pkg/pki", "pkg/bootstrap", "pkg/keyring", "pkg/embedded", "manifests"}
	wiring := []string{"pkg/server", "pkg/agent", "pkg/daemon"}
	switch {
	case within(dir, "pkg/internal"):
		return -1
	case withinAny(dir, ground...):
		return 0
	case withinAny(dir, data...):
		return 1
	case withinAny(dir, wiring...):
		return 3
	case within(dir, "pkg"):
		return 2
	case within(dir, "tests"):
		return 5
	}
	return 4
}

// sideways are imports within one layer that are right.
func sideways(from, to string) bool {
	if within(from, to) || within(to, from) {
		return true // parts of one thing
	}
	switch layer(from) {
	case -1:
		return true
	case 0:
		return false
	case 1:
		return to == "pkg/config" // what a user said, which is data for all
	case 2:
		// The connection to the API, the state of the process and the reading
		// of upstream's flags are no components.
		return within(from, "pkg/kube") && (to == "pkg/kube/inproc" || to == "pkg/kube/globals" || to == "pkg/kube/flags")
	case 3:
		// A server has a node part, and both are commands that go on running.
		return from == "pkg/server" && to == "pkg/agent" || to == "pkg/daemon"
	}
	return true
}

func layers(all []source) []string {
	names := []string{"the ground (version, layout, component)", "data (config, logging, pki, ...)", "a component", "the wiring (server, agent)", "a command", "a test"}
	var problems []string
	for _, s := range all {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for imported, spec := range s.imports() {
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			have, want := layer(s.dir), layer(to)
			if want < have || want == have && sideways(s.dir, to) {
				continue
			}
			what := "pkg/internal"
			if have >= 0 {
				what = names[have]
			}
			problems = append(problems, fmt.Sprintf("%s: %s is %s and must not import %s: pass it an address, a path, a client or a small interface by its constructor, in pkg/server or pkg/agent", s.at(spec), s.dir, what, to))
		}
	}
	return problems
}

// library is a library that only some packages may import.
type library struct {
	prefix string
	where  []string // directories, with all below them
	why    string
}

func restricted() []library {
	return []library{
		{"k8s.io/kubernetes/", []string{"pkg/kube", "cmd/kubectl"},
			"Kubernetes itself is embedded in pkg/kube/*, so that an update is work in few places: use client-go, or move the code there"},
		{"github.com/urfave/cli", []string{"cmd", "."},
			"flags are the business of cmd: take a typed configuration"},
		{"os/signal", []string{".", "cmd/launcher"},
			"signals belong to main: take a ctx"},
		{"github.com/containerd/containerd/v2/cmd/containerd", []string{"pkg/containerd"},
			"containerd itself is embedded in pkg/containerd: use its client"},
		{"github.com/coredns/", []string{"pkg/dns"},
			"CoreDNS is embedded in pkg/dns"},
		{"github.com/flannel-io/", []string{"pkg/network"},
			"flannel is embedded in pkg/network"},
		{"github.com/k3s-io/kine", []string{"pkg/datastore", "pkg/internal/kineapi", "pkg/internal/kinewatch"},
			"kine is embedded in pkg/datastore"},
		{"testing", []string{"pkg/internal/nstest"},
			"a program does not carry its tests: move this to a _test.go file or to a package named ...test"},
		{"go.uber.org/goleak", nil,
			"a program does not carry its tests: move this to a _test.go file"},
	}
}

// unframed are packages that everything imports and that stay free of
// frameworks for that reason.
func unframed() []string { return []string{"pkg/component", "pkg/layout", "pkg/version"} }

func libraries(all []source) []string {
	var problems []string
	for _, s := range all {
		if s.test {
			continue
		}
		for imported, spec := range s.imports() {
			for _, l := range restricted() {
				if !imports(imported, l.prefix) || allowed(s.dir, l.where) {
					continue
				}
				problems = append(problems, fmt.Sprintf("%s: %s must not import %s: %s", s.at(spec), s.dir, imported, l.why))
			}
			if slices.Contains(unframed(), s.dir) && strings.Contains(imported, ".") && !strings.HasPrefix(imported, module) {
				problems = append(problems, fmt.Sprintf("%s: %s must not import %s: every package imports it, so it keeps to the standard library", s.at(spec), s.dir, imported))
			}
		}
	}
	return problems
}

// imports says whether an import path is prefix or below it.
func imports(imported, prefix string) bool {
	return within(imported, strings.TrimSuffix(prefix, "/"))
}

func allowed(dir string, where []string) bool {
	for _, w := range where {
		if w == "." && dir == "." || w != "." && within(dir, path.Clean(w)) {
			return true
		}
	}
	return false
}
