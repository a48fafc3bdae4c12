// Package queues counts what goes through the work queues of every controller
// in the process, under the names of upstream's metrics, without upstream's
// clock: there, each queue wakes up twice a second to work out for how long its
// items have been worked on, some ninety queues on an idle server. Here that is
// worked out when somebody asks for the metrics. Importing the package is
// enough; pkg/kube/globals does.
package queues

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/metrics/legacyregistry"
)

// Upstream's provider is set by an init function too, and the first one counts.
// This one is first: packages whose imports are initialised come in the order
// of their paths, and this package imports nothing that upstream's does not.
// TestQueuesDoNotTick finds out if that ever changes.
func init() {
	workqueue.SetProvider(registered(newMetrics()))
}

func registered(m *metrics) *metrics {
	legacyregistry.RawMustRegister(m)
	return m
}

// metrics is the provider for all queues and the collector of their metrics. It
// is safe for concurrent use.
type metrics struct {
	depth      *prometheus.GaugeVec
	adds       *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	duration   *prometheus.HistogramVec
	retries    *prometheus.CounterVec
	unfinished *prometheus.Desc
	longest    *prometheus.Desc
	work       works
}

// newMetrics repeats upstream's names, help texts and buckets.
func newMetrics() *metrics {
	const prefix = "workqueue_"
	label := []string{"name"}
	buckets := prometheus.ExponentialBuckets(10e-9, 10, 10)
	return &metrics{
		depth: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "depth", Help: "[BETA] Current depth of workqueue"}, label),
		adds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "adds_total", Help: "[BETA] Total number of adds handled by workqueue"}, label),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "queue_duration_seconds", Buckets: buckets,
			Help: "[BETA] How long in seconds an item stays in workqueue before being requested."}, label),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "work_duration_seconds", Buckets: buckets,
			Help: "[BETA] How long in seconds processing an item from workqueue takes."}, label),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "retries_total", Help: "[BETA] Total number of retries handled by workqueue"}, label),
		unfinished: prometheus.NewDesc(prefix+"unfinished_work_seconds",
			"[BETA] How many seconds of work has done that is in progress and hasn't been observed by work_duration. "+
				"Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at "+
				"which this increases.", label, nil),
		longest: prometheus.NewDesc(prefix+"longest_running_processor_seconds",
			"[BETA] How many seconds has the longest running processor for workqueue been running.", label, nil),
		work: works{queues: map[string]*work{}},
	}
}

// Describe implements prometheus.Collector. It says nothing, because upstream
// registers, and never uses, metrics of the same names.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.depth, m.adds, m.latency, m.duration, m.retries} {
		c.Collect(out)
	}
	for name, w := range m.work.all() {
		total, longest := w.age()
		out <- prometheus.MustNewConstMetric(m.unfinished, prometheus.GaugeValue, total.Seconds(), name)
		out <- prometheus.MustNewConstMetric(m.longest, prometheus.GaugeValue, longest.Seconds(), name)
	}
}

// NewDepthMetric implements workqueue.MetricsProvider.
func (m *metrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return depth{m.depth.WithLabelValues(name), m.work.of(name)}
}

// NewAddsMetric implements workqueue.MetricsProvider.
func (m *metrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

// NewLatencyMetric implements workqueue.MetricsProvider.
func (m *metrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name)
}

// NewWorkDurationMetric implements workqueue.MetricsProvider.
func (m *metrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return duration{m.duration.WithLabelValues(name), m.work.of(name)}
}

// NewUnfinishedWorkSecondsMetric implements workqueue.MetricsProvider.
func (m *metrics) NewUnfinishedWorkSecondsMetric(string) workqueue.SettableGaugeMetric { return quit{} }

// NewLongestRunningProcessorSecondsMetric implements workqueue.MetricsProvider.
func (m *metrics) NewLongestRunningProcessorSecondsMetric(string) workqueue.SettableGaugeMetric {
	return quit{}
}

// NewRetriesMetric implements workqueue.MetricsProvider.
func (m *metrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}
