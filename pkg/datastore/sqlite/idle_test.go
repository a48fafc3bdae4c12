package sqlite

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// BenchmarkIdle is what a cluster at rest costs: as many watches, each of a
// client of its own, as an API server holds, and no requests.
func BenchmarkIdle(b *testing.B) {
	d := start(b, b.TempDir())
	for i := range 70 {
		c, err := d.store.Client()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		w := c.Watch(d.store.WithProgressNotify(b.Context()), "/registry/kind-"+strconv.Itoa(i)+"/", clientv3.WithPrefix())
		go func() {
			for range w {
			}
		}()
	}
	const rest = 5 * time.Second
	b.ResetTimer()
	for range b.N {
		before, written := cpu(), ioCounter(b, "write_bytes")
		<-time.After(rest)
		b.ReportMetric(100*(cpu()-before).Seconds()/rest.Seconds(), "%cpu")
		b.ReportMetric(float64(ioCounter(b, "write_bytes")-written)/1024/rest.Seconds(), "KiB-written/s")
	}
}

func ioCounter(t testing.TB, name string) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/self/io has no %s", name)
	return 0
}
