package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// result is how a run ended.
type result struct {
	passed  int
	failed  []string
	skipped []string // with the reason
	known   []string // names of all tests that exist
}

// The report of the tests holds every test that exists, chosen or not.
type testsuites struct {
	XMLName xml.Name    `xml:"testsuites"`
	Suites  []testsuite `xml:"testsuite"`
}

type testsuite struct {
	Name      string     `xml:"name,attr"`
	Tests     int        `xml:"tests,attr"`
	Failures  int        `xml:"failures,attr"`
	Errors    int        `xml:"errors,attr"`
	Skipped   int        `xml:"skipped,attr"`
	Time      string     `xml:"time,attr"`
	Timestamp string     `xml:"timestamp,attr,omitempty"`
	Cases     []testcase `xml:"testcase"`
}

type testcase struct {
	Name      string   `xml:"name,attr"`
	Classname string   `xml:"classname,attr"`
	Status    string   `xml:"status,attr"`
	Time      string   `xml:"time,attr"`
	Skipped   *skipped `xml:"skipped,omitempty"`
	Content   string   `xml:",innerxml"`
}

type skipped struct {
	Message string `xml:"message,attr"`
}

// readReport counts, and writes a report without the tests that were not
// chosen to path.
func readReport(raw []byte, path string) (*result, error) {
	var all testsuites
	if err := xml.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("reading the report of the tests: %w", err)
	}
	r := &result{}
	for i := range all.Suites {
		s := &all.Suites[i]
		s.Cases = slices.DeleteFunc(s.Cases, func(c testcase) bool { return !r.count(c) })
		s.Tests, s.Skipped = len(s.Cases), len(r.skipped)
		s.Failures, s.Errors = len(r.failed), 0
		for j := range s.Cases {
			s.Cases[j].Skipped = nil // it is in Content
		}
	}
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, err
	}
	return r, os.WriteFile(path, append([]byte(xml.Header), out...), 0o644)
}

// count notes how a test ended, and gives whether it was chosen.
func (r *result) count(c testcase) bool {
	name, isTest := strings.CutPrefix(c.Name, "[It] ")
	if isTest {
		r.known = append(r.known, name)
	}
	switch {
	case c.Status == "passed":
		if isTest {
			r.passed++
		}
		return isTest
	case c.Status == "skipped" || c.Status == "pending":
		reason := ""
		if c.Skipped != nil {
			_, reason, _ = strings.Cut(c.Skipped.Message, " - ")
		}
		if reason != "" {
			r.skipped = append(r.skipped, name+": "+reason)
		}
		return reason != ""
	}
	r.failed = append(r.failed, name)
	return true
}

// unknown are the names in a list that no test has: tests are renamed.
func (r *result) unknown(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(r.known, name) })
}

// print ends a run: one line, and the names that a reader asks for next.
func (r *result) print(w io.Writer, took time.Duration) {
	for _, s := range r.skipped {
		fmt.Fprintf(w, "skipped: %s\n", s)
	}
	for _, f := range r.failed {
		fmt.Fprintf(w, "FAILED:  %s\n", f)
	}
	fmt.Fprintf(w, "conformance: %d passed, %d failed, %d skipped, %.0f seconds\n", r.passed, len(r.failed), len(r.skipped), took.Seconds())
}
