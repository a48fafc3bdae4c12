package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
)

// counters count what the datastore does from its start on. Each costs one
// atomic addition.
type counters struct {
	// statements that were run, by the kind of connection; a transaction's
	// BEGIN and COMMIT are two.
	writer, reader, checkpoint atomic.Uint64
	// commits are transactions of writes, each flushed to the disk once.
	commits atomic.Uint64
	// writes are keys that were created, changed or deleted, bytes what they
	// and their values have.
	writes, bytes atomic.Uint64
}

// wrote counts what a commit has written.
func (c *counters) wrote(events []*server.Event) {
	var n uint64
	for _, e := range events {
		n += uint64(len(e.KV.Key) + len(e.KV.Value))
	}
	c.writes.Add(uint64(len(events)))
	c.bytes.Add(n)
}

// of has the connections of a database counted.
func (c *counters) of(db *database) {
	db.writer.ran, db.checkpoints.ran = &c.writer, &c.checkpoint
	for _, r := range db.readers {
		r.ran = &c.reader
	}
}

// Metrics are the datastore's own, for whoever serves the process' metrics.
func (d *Datastore) Metrics() []prometheus.Collector {
	counter := func(name, help, connection string, n *atomic.Uint64) prometheus.Collector {
		o := prometheus.CounterOpts{Namespace: "skiff", Subsystem: "datastore", Name: name, Help: help}
		if connection != "" {
			o.ConstLabels = prometheus.Labels{"connection": connection}
		}
		return prometheus.NewCounterFunc(o, func() float64 { return float64(n.Load()) })
	}
	const statements, help = "sql_statements_total", "SQL statements run by the embedded datastore, by kind of connection."
	return append([]prometheus.Collector{
		counter("writes_total", "Keys created, changed or deleted in the embedded datastore.", "", &d.counts.writes),
		counter("written_bytes_total", "Bytes of keys and values written to the embedded datastore.", "", &d.counts.bytes),
		counter(statements, help, "writer", &d.counts.writer),
		counter(statements, help, "reader", &d.counts.reader),
		counter(statements, help, "checkpoint", &d.counts.checkpoint),
		counter("commits_total", "Transactions of writes committed by the embedded datastore, each flushed to the disk once.", "", &d.counts.commits),
	}, d.sizes()...)
}

// sizes are looked at when somebody asks for them.
func (d *Datastore) sizes() []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "skiff", Subsystem: "datastore", Name: name, Help: help, ConstLabels: labels}, value)
	}
	const name, help = "size_bytes", "Size of the embedded datastore: its file, the part of the file that is in use, and the write-ahead log."
	of := func(path string) func() float64 {
		return func() float64 {
			info, err := os.Stat(path)
			if err != nil {
				return 0
			}
			return float64(info.Size())
		}
	}
	return []prometheus.Collector{
		gauge(name, help, prometheus.Labels{"part": "file"}, of(d.cfg.Path)),
		gauge(name, help, prometheus.Labels{"part": "log"}, of(d.cfg.Path+"-wal")),
		gauge(name, help, prometheus.Labels{"part": "used"}, func() float64 { return float64(d.used()) }),
		gauge("disk_available_bytes", "Space left on the file system of the embedded datastore.", nil, func() float64 {
			free, _, _ := available(filepath.Dir(d.cfg.Path))
			return float64(free)
		}),
		gauge("space_alarm", "Whether the file system of the embedded datastore is getting full: 1 soon, 2 so much that objects are not created, 3 nor changed.", nil, func() float64 {
			free, size, err := available(filepath.Dir(d.cfg.Path))
			if err != nil {
				return 0
			}
			return float64(levelOf(free, size))
		}),
	}
}

// used is how much of the file holds something, 0 when that can't be found out soon.
func (d *Datastore) used() int64 {
	e := d.serving.Load()
	if e == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n, err := e.b.DbSize(ctx)
	if err != nil {
		return 0
	}
	return n
}
