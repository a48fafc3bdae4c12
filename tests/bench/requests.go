package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"
)

// asked counts what was asked of the API since the server started, and what the
// API server asked of its datastore.
type asked struct {
	// byFlow are requests to the API by the flow schema that they fell under,
	// which is as near as the metrics come to saying who asked. Long ones like
	// watches are counted when they end, here and in byKind.
	byFlow map[string]float64
	byKind map[string]float64 // by verb and resource
	// datastore are requests of the API server to etcd or what stands for it.
	datastore float64
	// statements are Skiff's, of SQL.
	statements float64
	// flushes to the disk: Skiff's commits; etcd's of its log and of its file.
	flushes float64
}

// requests reads the system's metrics.
func requests(ctx context.Context, s system) (asked, error) {
	text, err := s.Metrics(ctx)
	if err != nil {
		return asked{}, fmt.Errorf("reading the metrics: %w", err)
	}
	return count(text), nil
}

func count(metrics string) asked {
	a := asked{byFlow: map[string]float64{}, byKind: map[string]float64{}}
	for line := range strings.Lines(metrics) {
		series, number, found := cutLast(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(number, 64)
		if !found || err != nil {
			continue
		}
		switch name, _, _ := strings.Cut(series, "{"); name {
		case "apiserver_flowcontrol_dispatched_requests_total":
			a.byFlow[label(series, "flow_schema")] += n
		case "apiserver_request_total":
			a.byKind[kind(series)] += n
		case "etcd_requests_total":
			a.datastore += n
		case "skiff_datastore_sql_statements_total":
			a.statements += n
		case "skiff_datastore_commits_total",
			"etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count":
			a.flushes += n
		}
	}
	return a
}

// apiMetrics is what the API server serves at /metrics.
func apiMetrics(ctx context.Context, config *rest.Config) (string, error) {
	client, err := newClient(config, jsonObjects)
	if err != nil {
		return "", err
	}
	data, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	return string(data), err
}

func kind(series string) string {
	what := label(series, "resource")
	if sub := strings.Trim(label(series, "subresource"), "/"); sub != "" {
		what = strings.TrimPrefix(what+"/"+sub, "/")
	}
	return label(series, "verb") + " " + what
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// label is the value of a label in a series.
func label(series, name string) string {
	for _, before := range []string{"{", ","} {
		if _, rest, found := strings.Cut(series, before+name+`="`); found {
			v, _, _ := strings.Cut(rest, `"`)
			return v
		}
	}
	return ""
}

// recordRequests records what was asked in a window of minutes, less this
// program's own request for the metrics at its beginning.
func recordRequests(before, after asked, minutes float64, record recorder) {
	before.byFlow["exempt"]++
	before.byKind["GET metrics"]++
	sum := 0.0
	for _, flow := range slices.Sorted(maps.Keys(after.byFlow)) {
		n := (after.byFlow[flow] - before.byFlow[flow]) / minutes
		sum += n
		if n > 0 {
			record(value{"flow/" + flow, flow, "1/min", n})
		}
	}
	record(value{"idle/requests", "Idle: API requests", "1/min", sum})
	record(value{"idle/datastore", "Idle: requests of the API server to its datastore", "1/min", (after.datastore - before.datastore) / minutes})
	if after.flushes > 0 {
		record(value{"idle/flushes", "Idle: flushes of the datastore to the disk", "1/min", (after.flushes - before.flushes) / minutes})
	}
	if after.statements > 0 {
		record(value{"idle/statements", "Idle: SQL statements", "1/min", (after.statements - before.statements) / minutes})
	}
	for _, kind := range slices.Sorted(maps.Keys(after.byKind)) {
		if n := (after.byKind[kind] - before.byKind[kind]) / minutes; n > 0 {
			record(value{"kind/" + kind, kind, "1/min", n})
		}
	}
}
