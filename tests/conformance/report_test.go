package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="7000"><testsuite name="Kubernetes e2e suite" tests="7000" time="3">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="1"></testcase>
<testcase name="[It] a passes" status="passed" time="1"></testcase>
<testcase name="[It] b was not chosen" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] c needs more" status="skipped" time="0"><skipped message="skipped - needs 2 nodes"></skipped></testcase>
<testcase name="[It] d fails" status="failed" time="1"><failure type="failed">why &lt;so&gt;</failure></testcase>
<testcase name="[It] e hangs" status="timedout" time="1"><failure type="timedout">long</failure></testcase>
<testcase name="[SynchronizedAfterSuite]" status="panicked" time="1"><error type="panicked">oh</error></testcase>
</testsuite></testsuites>`

func TestReportCountsWhatWasChosen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "junit.xml")
	r, err := readReport([]byte(report), path)
	if err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 {
		t.Errorf("%d passed, want 1", r.passed)
	}
	if want := []string{"d fails", "e hangs", "[SynchronizedAfterSuite]"}; !slices.Equal(r.failed, want) {
		t.Errorf("failed are %q, want %q", r.failed, want)
	}
	if want := []string{"c needs more: needs 2 nodes"}; !slices.Equal(r.skipped, want) {
		t.Errorf("skipped are %q, want %q", r.skipped, want)
	}
	if got := r.unknown([]string{"a passes", "b was not chosen", "f was renamed"}); !slices.Equal(got, []string{"f was renamed"}) {
		t.Errorf("unknown are %q", got)
	}
	var line strings.Builder
	r.print(&line, 3e9)
	if want := "conformance: 1 passed, 3 failed, 1 skipped, 3 seconds\n"; !strings.HasSuffix(line.String(), want) {
		t.Errorf("the last line is not %q:\n%s", want, line.String())
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(written), "<skipped") != 1 || strings.Contains(string(written), "b was not chosen") || !strings.Contains(string(written), "why &lt;so&gt;") {
		t.Errorf("the report is\n%s", written)
	}
}
