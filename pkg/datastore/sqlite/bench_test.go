package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
)

// BenchmarkCreate16 creates 500 keys, 16 at a time, through the etcd client, on
// this datastore and on etcd. One iteration is all 500.
func BenchmarkCreate16(b *testing.B) {
	b.Run("sqlite on the socket", func(b *testing.B) { createMany(b, start(b, b.TempDir()).kube) })
	b.Run("sqlite by calls", func(b *testing.B) { createMany(b, startCalls(b, b.TempDir()).kube) })
	b.Run("etcd", func(b *testing.B) { createMany(b, kubernetes.Client{Client: startEtcd(b)}) })
}

// BenchmarkUpdate16 is the same with a change of 500 keys that exist.
func BenchmarkUpdate16(b *testing.B) {
	b.Run("sqlite on the socket", func(b *testing.B) { updateMany(b, start(b, b.TempDir()).kube) })
	b.Run("sqlite by calls", func(b *testing.B) { updateMany(b, startCalls(b, b.TempDir()).kube) })
	b.Run("etcd", func(b *testing.B) { updateMany(b, kubernetes.Client{Client: startEtcd(b)}) })
}

// BenchmarkUpdate16WhileCompacting is the same while the history of thousands
// of changes is removed, again and again.
func BenchmarkUpdate16WhileCompacting(b *testing.B) {
	b.Run("sqlite by calls", func(b *testing.B) { updateWhileCompacting(b, startCalls(b, b.TempDir())) })
	b.Run("etcd", func(b *testing.B) {
		c := startEtcd(b)
		updateWhileCompacting(b, &instance{Client: c, kube: kubernetes.Client{Client: c}})
	})
}

func updateWhileCompacting(b *testing.B, d *instance) {
	done := make(chan struct{})
	var compacting sync.WaitGroup
	compacting.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			r, err := d.kube.Get(b.Context(), "/", kubernetes.GetOptions{})
			if err == nil && r.Revision > 10_000 {
				_, err = d.Compact(b.Context(), r.Revision-1000)
			}
			if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
				b.Error(err)
				return
			}
		}
	})
	updateMany(b, d.kube)
	close(done)
	compacting.Wait()
}

const benchKeys, benchWorkers = 500, 16

func createMany(b *testing.B, c kubernetes.Interface) {
	value := []byte(strings.Repeat("x", 1000))
	round := 0
	measure(b, func(i int) error {
		return put(b.Context(), c, fmt.Sprintf("/registry/configmaps/round-%d/object-%d", round, i), value, new(int64))
	}, func() { round++ })
}

func updateMany(b *testing.B, c kubernetes.Interface) {
	value := []byte(strings.Repeat("x", 1000))
	revisions := make([]int64, benchKeys)
	change := func(i int) error {
		return put(b.Context(), c, fmt.Sprintf("/registry/configmaps/default/object-%d", i), value, &revisions[i])
	}
	for i := range revisions {
		if err := change(i); err != nil {
			b.Fatal(err)
		}
	}
	measure(b, change, func() {})
}

// put writes a key as the API server does and moves its revision on.
func put(ctx context.Context, c kubernetes.Interface, key string, value []byte, revision *int64) error {
	r, err := c.OptimisticPut(ctx, key, value, *revision, kubernetes.PutOptions{GetOnFailure: *revision != 0})
	if err == nil && !r.Succeeded {
		err = fmt.Errorf("%s is not at revision %d", key, *revision)
	}
	*revision = r.Revision
	return err
}

// measure calls f for every key by benchWorkers workers, b.N times over, and
// reports requests per second, the 99th percentile and CPU time per request of
// the whole process, client included.
func measure(b *testing.B, f func(i int) error, next func()) {
	var mu sync.Mutex
	var took []time.Duration
	before, began := cpu(), time.Now()
	b.ResetTimer()
	for range b.N {
		work := make(chan int, benchKeys)
		for i := range benchKeys {
			work <- i
		}
		close(work)
		var wg sync.WaitGroup
		for range benchWorkers {
			wg.Go(func() {
				for i := range work {
					start := time.Now()
					if err := f(i); err != nil {
						b.Error(err)
						return
					}
					mu.Lock()
					took = append(took, time.Since(start))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		next()
	}
	b.StopTimer()
	total := time.Since(began)
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/total.Seconds(), "requests/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(len(took)), "cpu-µs/request")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// freePort is an address that nobody listens on; etcd takes no socket for
// its peers.
func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startEtcd(b *testing.B) *clientv3.Client {
	b.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = b.TempDir()
	cfg.LogLevel = "fatal"
	client := url.URL{Scheme: "unix", Path: b.TempDir() + "/client.sock"}
	peer := url.URL{Scheme: "http", Host: freePort(b)}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{peer}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		b.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	c := connect(b, client.String())
	b.Cleanup(func() {
		c.Close()
		e.Close()
	})
	return c
}
