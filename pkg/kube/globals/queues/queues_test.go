package queues_test // else upstream's provider, imported here, would come first

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/workqueue" // as in the program

	_ "github.com/skiff-k8s/skiff/pkg/kube/globals/queues"
)

func newQueue(name string) *workqueue.Typed[string] {
	return workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Name: name})
}

// scrape is what /metrics would say about one queue.
func scrape(t *testing.T, queue string) string {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "workqueue_") {
			if _, err := expfmt.MetricFamilyToText(&all, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	var lines []string
	for line := range strings.Lines(all.String()) {
		if strings.Contains(line, `name="`+queue+`"`) && !strings.Contains(line, "_bucket") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestQueuesDoNotTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("still")
		time.Sleep(time.Second) // upstream's period is half of it
		synctest.Wait()
		var stacks bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stacks.String(), "updateUnfinishedWorkLoop") {
			t.Errorf("the queue still wakes up:\n%s", &stacks)
		}
		q.Add("x")
		item, _ := q.Get()
		q.Done(item)
		q.ShutDownWithDrain()
	})
}

func TestMetricsSayWhatQueuesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("busy")
		for _, item := range []string{"a", "b", "c", "d"} {
			q.Add(item)
		}
		time.Sleep(10 * time.Second)
		for range 3 {
			q.Get()
			time.Sleep(10 * time.Second)
		}
		q.Done("b") // began 20 s ago; "a" is 30 s old and "c" 10 s
		want := `workqueue_adds_total{name="busy"} 4
workqueue_depth{name="busy"} 1
workqueue_longest_running_processor_seconds{name="busy"} 30
workqueue_queue_duration_seconds_sum{name="busy"} 60
workqueue_queue_duration_seconds_count{name="busy"} 3
workqueue_unfinished_work_seconds{name="busy"} 40
workqueue_work_duration_seconds_sum{name="busy"} 20
workqueue_work_duration_seconds_count{name="busy"} 1
`
		if got := scrape(t, "busy"); got != want {
			t.Errorf("metrics:\n%swant:\n%s", got, want)
		}
		q.Done("a")
		q.Done("c")
		if got := scrape(t, "busy"); !strings.Contains(got, `unfinished_work_seconds{name="busy"} 0`) {
			t.Errorf("metrics with nothing under way:\n%s", got)
		}
		q.ShutDown()
	})
}
