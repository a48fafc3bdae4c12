package snapshot

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what monitoring is told.
type counters struct {
	failures prometheus.Counter
	last     prometheus.Gauge
	size     prometheus.Gauge
}

func newCounters() *counters {
	return &counters{
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "skiff_snapshot_failures_total", Help: "Snapshots that could not be made or uploaded since the start."}),
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "skiff_snapshot_last_success_timestamp_seconds", Help: "When the last snapshot was made, and uploaded where that is configured; 0 before the first since the start."}),
		size:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "skiff_snapshot_size_bytes", Help: "Size of the last snapshot."}),
	}
}

func (c *counters) saved(i Info, at time.Time) {
	c.size.Set(float64(i.Size))
	c.last.Set(float64(at.Unix()))
}

// Metrics are the Keeper's.
func (k *Keeper) Metrics() []prometheus.Collector {
	return []prometheus.Collector{k.counts.failures, k.counts.last, k.counts.size}
}
