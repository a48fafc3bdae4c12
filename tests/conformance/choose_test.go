package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	const first, second = "[sig-apps] Job should (really) run [Conformance]", "[sig-node] Pods should be two [Conformance]"
	dir := t.TempDir()
	for name, content := range map[string]string{"ci.txt": "# why\n" + first + "\n\n", "two-nodes.txt": second + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a list is taken literally, and what needs two nodes is left out", func(t *testing.T) {
		s, err := choose(options{lists: dir, list: "ci", skip: "Slow"})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.focus) != 1 || !regexp.MustCompile(s.focus[0]).MatchString(first) {
			t.Errorf("the focus %q does not match %q", s.focus, first)
		}
		if len(s.skip) != 2 || s.skip[0] != "Slow" || !regexp.MustCompile(s.skip[1]).MatchString(second) {
			t.Errorf("left out are %q", s.skip)
		}
		if want := []string{first, second}; !slices.Equal(s.named, want) {
			t.Errorf("the names to be checked are %q, want %q", s.named, want)
		}
	})
	t.Run("with two nodes a list has what needs them", func(t *testing.T) {
		s, err := choose(options{lists: dir, list: "ci", nodes: 2})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.skip) != 0 || len(s.focus) != 2 || !regexp.MustCompile(s.focus[1]).MatchString(second) {
			t.Errorf("the focus is %q, left out are %q", s.focus, s.skip)
		}
	})
	for name, o := range map[string]options{
		"a list that does not exist":    {lists: dir, list: "none"},
		"a list and a focus":            {lists: dir, list: "ci", focus: "x"},
		"two nodes' list with one node": {lists: dir, list: "two-nodes", nodes: 1},
		"a pattern that is no pattern":  {lists: dir, focus: "("},
		"a directory that has no lists": {lists: filepath.Join(dir, "none")},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if s, err := choose(o); err == nil {
				t.Errorf("got %v", s)
			}
		})
	}
}
