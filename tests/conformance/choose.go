package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// selection is what ginkgo is told to run.
type selection struct {
	focus []string // regular expressions, any of which has to match
	skip  []string
	named []string // the tests that come from lists
}

// twoNodes is the list of tests that a cluster of one node cannot pass. Where
// there are two, every list has them at its end.
const twoNodes = "two-nodes"

func choose(o options) (selection, error) {
	var s selection
	lacking, err := readList(o.lists, twoNodes)
	if err != nil {
		return s, err
	}
	if o.list == twoNodes && o.nodes < 2 {
		return s, fmt.Errorf("one node cannot pass the tests in %s.txt: choose two, with NODES=2", twoNodes)
	}
	if o.list != "" {
		names, err := readList(o.lists, o.list)
		if err != nil {
			return s, err
		}
		if o.nodes > 1 && o.list != twoNodes {
			names = append(names, lacking...)
		}
		s.named = names
		s.focus = quoted(names)
	}
	if o.focus != "" {
		if o.list != "" {
			return s, fmt.Errorf("choose with a list or with a focus, not with both")
		}
		s.focus = append(s.focus, o.focus)
	}
	if o.skip != "" {
		s.skip = append(s.skip, o.skip)
	}
	if o.nodes < 2 {
		s.named = append(s.named, lacking...)
		s.skip = append(s.skip, quoted(lacking)...)
	}
	for _, pattern := range append(append([]string(nil), s.focus...), s.skip...) {
		if _, err := regexp.Compile(pattern); err != nil {
			return s, fmt.Errorf("reading the choice of tests: %w", err)
		}
	}
	return s, nil
}

func quoted(names []string) []string {
	var patterns []string
	for _, name := range names {
		patterns = append(patterns, regexp.QuoteMeta(name))
	}
	return patterns
}

// readList reads names of tests, one per line; # begins a comment line.
func readList(dir, name string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, name+".txt"))
	if err != nil {
		return nil, fmt.Errorf("reading the list of tests: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names, nil
}
