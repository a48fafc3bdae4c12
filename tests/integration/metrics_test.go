package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// metric reads one series of the API server's port.
func metric(metrics, series string) (float64, error) {
	for line := range strings.Lines(metrics) {
		if number, found := strings.CutPrefix(line, series+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(number), 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", series)
}

func TestMetricsShowWhatTheDatastoreDoes(t *testing.T) {
	n := cluster(t)
	read := func(series string) float64 {
		t.Helper()
		v, err := metric(n.Host.Kubectl(t, "get", "--raw", "/metrics"), series)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	statements, commits := `skiff_datastore_sql_statements_total{connection="writer"}`, "skiff_datastore_commits_total"
	statementsBefore, commitsBefore := read(statements), read(commits)
	n.Kubectl(t, "create", "configmap", "written")
	// Others write as well, never less than this.
	if more := read(commits) - commitsBefore; more < 1 {
		t.Errorf("a write took %v commits", more)
	}
	if more := read(statements) - statementsBefore; more < 4 {
		t.Errorf("a write took %v statements", more)
	}
	// Upstream's own are still there beside them.
	if uptime := read("process_start_time_seconds"); uptime == 0 {
		t.Error("the process has no start time")
	}
}
