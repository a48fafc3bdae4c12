package main

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// requirements are the versions that a go.mod asks for.
func requirements(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) (?:=> \S+ )?(v\S+)`).FindAllStringSubmatch(string(data), -1) {
		all[m[1]] = m[2] // a replacement stands behind what it replaces
	}
	return all
}

func TestStockIsBuiltFromTheVersionsOfTheProduct(t *testing.T) {
	product, stock := requirements(t, "../../go.mod"), requirements(t, "stock/go.mod")
	compared := 0
	for name, version := range stock {
		if want := product[name]; want != "" {
			compared++
			if version != want {
				t.Errorf("%s: stock has %s, the product %s: change tests/bench/stock/go.mod", name, version, want)
			}
		}
	}
	if compared < 100 {
		t.Errorf("only %d modules are in both", compared)
	}
}

func TestProcessesAreReadFromProc(t *testing.T) {
	s, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.parent != os.Getppid() || !strings.HasPrefix("bench.test", s.name) {
		t.Errorf("this process is %+v", s)
	}
	// The clock of these times has ticks of 10 ms.
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
	}
	after, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if spent := after.cpu - s.cpu; spent <= 0 || spent > 10 {
		t.Errorf("100 ms of work are %.2f s", spent)
	}
}

func TestRequestsAreToldApart(t *testing.T) {
	tests := map[string]string{
		`apiserver_request_total{resource="leases",subresource="",verb="PUT"}`:           "PUT leases",
		`apiserver_request_total{resource="nodes",subresource="status",verb="PATCH"}`:    "PATCH nodes/status",
		`apiserver_request_total{resource="",subresource="/metrics",verb="GET"}`:         "GET metrics",
		`apiserver_request_total{subresource="x",verb="GET",resource="pods",code="200"}`: "GET pods/x",
	}
	for series, want := range tests {
		if got := kind(series); got != want {
			t.Errorf("%s: %q, want %q", series, got, want)
		}
	}
}

func TestRecordedRequestsLeaveOutTheQuestionItself(t *testing.T) {
	before := count(`apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt"} 3
apiserver_request_total{verb="GET",subresource="/metrics"} 1
apiserver_request_total{verb="PUT",resource="leases"} 10
`)
	after := count(`# TYPE apiserver_request_total counter
apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt"} 4
apiserver_flowcontrol_dispatched_requests_total{flow_schema="nodes"} 6
apiserver_request_total{verb="GET",subresource="/metrics"} 2
apiserver_request_total{verb="PUT",resource="leases",code="200"} 10
apiserver_request_total{verb="PUT",resource="leases",code="409"} 6
etcd_requests_total{operation="get",type="leases"} 8
etcd_disk_wal_fsync_duration_seconds_count 3
etcd_disk_backend_commit_duration_seconds_count 1
skiff_datastore_sql_statements_total{connection="reader"} 20
skiff_datastore_sql_statements_total{connection="writer"} 4e1
`)
	got := map[string]float64{}
	recordRequests(before, after, 2, func(v value) { got[v.ID] = v.Number })
	want := map[string]float64{
		"flow/nodes": 3, "idle/requests": 3, "kind/PUT leases": 3,
		"idle/datastore": 4, "idle/flushes": 2, "idle/statements": 30,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConcurrentCallsAreBoundedAndAllMade(t *testing.T) {
	slots := make(chan struct{}, 3)
	called := make([]bool, 50)
	took, err := concurrently(3, len(called), func(i int) error {
		select {
		case slots <- struct{}{}:
		default:
			t.Error("a fourth call at a time")
		}
		called[i] = true
		<-slots
		return nil
	})
	if err != nil || len(took) != len(called) || slices.Contains(called, false) {
		t.Errorf("%d durations, %v, %v", len(took), err, called)
	}
}

func TestTableShowsMediansAndRatios(t *testing.T) {
	r := &results{Commit: "abc", Repetitions: 3}
	for _, n := range []float64{9, 1, 2} {
		r.add("skiff", value{"cold/api", "API ready", "s", n})
		r.add("stock", value{"cold/api", "API ready", "s", 2 * n})
	}
	r.add("skiff", value{"size/download", "Download", "MB", 123.4})
	r.add("skiff", value{"idle/cpu", "Idle: CPU", "% of a core", 2})
	if got, want := r.summary(), "Skiff / stock: API ready 2.00 / 4.00 s (0.50); idle CPU 2.00 %."; got != want {
		t.Errorf("the summary is %q, want %q", got, want)
	}
	for _, want := range []string{"| API ready | s | 2.00 | 4.00 | 0.50 |", "| Download | MB | 123 |  |  |"} {
		if table := r.table(); !strings.Contains(table, want) {
			t.Errorf("there is no line %q in\n%s", want, table)
		}
	}
	r.add(onEtcd, value{"cold/api", "API ready", "s", 3})
	for _, want := range []string{"| API ready | s | 2.00 | 3.00 | 4.00 | 0.50 |", "| Download | MB | 123 |  |  |  |"} {
		if table := r.table(); !strings.Contains(table, want) {
			t.Errorf("with etcd, there is no line %q in\n%s", want, table)
		}
	}
}

func TestTheShortFormYieldsToWhatIsAskedFor(t *testing.T) {
	o, err := parse([]string{"-short", "-idle", "10m"})
	if err != nil {
		t.Fatal(err)
	}
	if o.repetitions != 1 || o.idle != 10*time.Minute || slices.Contains(o.steps, "pods") || len(o.concurrency) != 1 {
		t.Errorf("%+v", o)
	}
	if o, err = parse([]string{"-short", "-steps", "pods"}); err != nil || !slices.Equal(o.steps, []string{"pods"}) {
		t.Errorf("%v, steps %v", err, o.steps)
	}
}

func TestStepsAreChosenByName(t *testing.T) {
	names := func(repetition int, o options) (all []string) {
		for _, s := range o.chosen(repetition) {
			all = append(all, s.name)
		}
		return all
	}
	if got := names(0, options{steps: []string{"sizes", "idle"}}); !slices.Equal(got, []string{"start", "idle", "sizes"}) {
		t.Errorf("chosen are %v", got)
	}
	if got := names(0, options{}); !slices.Equal(got, []string{"start"}) {
		t.Errorf("chosen are %v", got)
	}
	_, err := parse([]string{"-steps", "idle,sleep"})
	if err == nil || !strings.Contains(err.Error(), `no step "sleep"`) {
		t.Errorf("error %v", err)
	}
}

func TestEventsAreFoundInBothFormsOfAWatch(t *testing.T) {
	frame := func(s string) string { return string([]byte{0, 0, 0, byte(len(s))}) + s }
	tests := map[string]struct {
		split bufio.SplitFunc
		text  string
	}{
		"JSON":     {bufio.ScanLines, `{"name":"watched-000004"}` + "\n" + `{"name":"watched-000017"}` + "\n"},
		"protobuf": {lengthDelimited, frame("k8s\x00watched-000004\x12") + frame("k8s\x00watched-000017\x12\n")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &watchStream{io.NopCloser(iotest.OneByteReader(strings.NewReader(tt.text))), tt.split}
			var got []int
			err := w.each(func(i int) error {
				got = append(got, i)
				return nil
			})
			if err == nil || !slices.Equal(got, []int{4, 17}) {
				t.Errorf("%v, then %v", got, err)
			}
		})
	}
}

func TestAnObjectIsSeenWhenTheLastWatcherHasSeenIt(t *testing.T) {
	a := newAudience(2)
	for i := range watchers {
		select {
		case <-a.all:
			t.Fatalf("all have seen all, say %d", i)
		default:
		}
		if err := errors.Join(a.note(1), a.note(0)); err != nil {
			t.Fatal(err)
		}
		if seen := !a.last[0].IsZero(); seen != (i == watchers-1) {
			t.Errorf("after %d watchers the last one is %v", i+1, a.last[0])
		}
	}
	<-a.all
	if a.note(2) == nil {
		t.Error("an object that is not there was seen")
	}
}

func TestResultsAreAddedToThoseOfTheSameCommit(t *testing.T) {
	o := options{commit: "abc", repetitions: 3, results: t.TempDir()}
	first := newResults(o)
	first.add("skiff", value{"cold/api", "API ready", "s", 2})
	first.seen = []measured{seen("skiff", 0)}
	if err := first.write(); err != nil {
		t.Fatal(err)
	}
	o.add, o.repetitions = true, 1
	second, err := openResults(o)
	if err != nil {
		t.Fatal(err)
	}
	second.add("skiff", value{"growth/1/cpu", "1 agent: CPU", "% of a core", 4})
	if err := second.write(); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(o.results, "table.md"))
	for _, want := range []string{"| API ready |", "| 1 agent: CPU |", "benchmarks-cpu.svg", "Medians of 3"} {
		if !strings.Contains(string(table), want) {
			t.Errorf("%v, and there is no %q in\n%s", err, want, table)
		}
	}
	if data, err := os.ReadFile(filepath.Join(o.results, "benchmarks-cpu.svg")); err != nil || !strings.Contains(string(data), "mean 70.0 %") {
		t.Errorf("the graph of the first run is gone: %v", err)
	}
	o.commit = "def"
	if _, err := openResults(o); err == nil || !strings.Contains(err.Error(), "leave out -add") {
		t.Errorf("results of another commit: %v", err)
	}
}
