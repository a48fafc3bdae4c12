package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const (
	watchers     = 100
	perWatchers  = 10  // watchers on one connection
	watchedTotal = 200 // ConfigMaps in each round
	watchTimeout = 2 * time.Minute
)

// watchLoad creates ConfigMaps, several at a time, while 100 others watch them
// on ten connections, and measures the time from each create to the moment at
// which the last of the watchers has the event, and the CPU time that the
// system spends on an event.
func watchLoad(ctx context.Context, s system, o options, record recorder) error {
	config, err := s.Config(ctx)
	if err != nil {
		return err
	}
	for _, contentType := range []string{jsonObjects, protobuf} {
		for _, c := range o.concurrency {
			if err := watchRound(ctx, s, config, contentType, c, record); err != nil {
				return err
			}
		}
	}
	return nil
}

func watchRound(ctx context.Context, s system, config *rest.Config, contentType string, at int, record recorder) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	client, err := newClient(config, contentType)
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	a := newAudience(watchedTotal)
	if err := a.gather(ctx, config, contentType, maps); err != nil {
		return err
	}
	defer a.close()
	before, err := used(s.Host())
	if err != nil {
		return err
	}
	begun := make([]time.Time, watchedTotal)
	if _, err := concurrently(at, watchedTotal, func(i int) error {
		begun[i] = time.Now()
		return createWatched(ctx, maps, i)
	}); err != nil {
		return err
	}
	if err := a.wait(ctx, s); err != nil {
		return err
	}
	after, err := used(s.Host())
	if err != nil {
		return err
	}
	took := make([]time.Duration, watchedTotal)
	for i := range took {
		took[i] = a.last[i].Sub(begun[i])
	}
	events := float64(watchers * watchedTotal)
	seconds := slices.MaxFunc(a.last, time.Time.Compare).Sub(slices.MinFunc(begun, time.Time.Compare)).Seconds()
	slices.Sort(took)
	id := fmt.Sprintf("watch/%s/%d/", kindName(contentType), at)
	title := fmt.Sprintf("%s, %d at a time, seen by 100 watchers: ", kindName(contentType), at)
	record(value{id + "rate", title + "rate of events", "1/s", events / seconds})
	record(value{id + "p50", title + "p50", "ms", milliseconds(took, 50)})
	record(value{id + "p99", title + "p99", "ms", milliseconds(took, 99)})
	record(value{id + "again", title + "watches ended by the server", "", float64(a.again.Load())})
	record(value{id + "cpu", title + "CPU per event", "µs", 1e6 * after.minus(before).CPU / events})
	return maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: watchedLabel})
}

const watchedLabel = "watched=true"

func createWatched(ctx context.Context, maps typed.ConfigMapInterface, i int) error {
	_, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: watchedName(i), Labels: map[string]string{"watched": "true"}},
		Data:       map[string]string{"key": "value"},
	}, metav1.CreateOptions{})
	return err
}

// audience is the watchers: it notes when the last of them has seen each object.
type audience struct {
	seen   []atomic.Int32 // watchers that have seen each object
	last   []time.Time    // written by the watcher that is the last
	left   atomic.Int32   // objects that not all have seen
	again  atomic.Int32   // watches that the server ended early
	all    chan struct{}  // closed when there are none left
	failed chan error
	cancel context.CancelFunc
	ends   sync.WaitGroup
}

func newAudience(objects int) *audience {
	a := &audience{
		seen: make([]atomic.Int32, objects), last: make([]time.Time, objects),
		all: make(chan struct{}), failed: make(chan error, watchers),
	}
	a.left.Store(int32(objects))
	return a
}

// gather starts the watchers, each of which has been answered when it returns.
func (a *audience) gather(ctx context.Context, config *rest.Config, contentType string, maps typed.ConfigMapInterface) error {
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: watchedLabel})
	if err != nil {
		return err
	}
	ctx, a.cancel = context.WithCancel(ctx)
	shared := config
	for i := range watchers {
		if i%perWatchers == 0 {
			shared = onOwnConnection(config)
		}
		config := shared
		events, err := watchRaw(ctx, config, contentType, list.ResourceVersion)
		if err != nil {
			a.close()
			return err
		}
		again := func() (*watchStream, error) { return watchRaw(ctx, config, contentType, list.ResourceVersion) }
		a.ends.Go(func() {
			if err := a.follow(ctx, events, again); err != nil && ctx.Err() == nil {
				a.failed <- err
			}
		})
	}
	return nil
}

// follow is one watcher. A server ends the watch of somebody who is slow, for
// whom it has no room any more; then he watches again, as controllers do, and
// is told of what he has seen once more.
func (a *audience) follow(ctx context.Context, events *watchStream, again func() (*watchStream, error)) error {
	seen := make([]bool, len(a.seen))
	note := func(i int) error {
		if i < len(seen) {
			if seen[i] {
				return nil
			}
			seen[i] = true
		}
		return a.note(i)
	}
	for {
		err := events.each(note)
		events.Close()
		if ctx.Err() != nil || !errors.Is(err, errWatchEnded) {
			return err
		}
		a.again.Add(1)
		if events, err = again(); err != nil {
			return err
		}
	}
}

// note counts one watcher's sight of an object.
func (a *audience) note(i int) error {
	if i >= len(a.seen) {
		return fmt.Errorf("%s is no object of this round", watchedName(i))
	}
	if a.seen[i].Add(1) < watchers {
		return nil
	}
	a.last[i] = time.Now()
	if a.left.Add(-1) == 0 {
		close(a.all)
	}
	return nil
}

func (a *audience) wait(ctx context.Context, s system) error {
	what := "all watchers have all events"
	select {
	case <-a.all:
		return nil
	case err := <-a.failed:
		return waitError{what, err}
	case <-s.Failed():
		return waitError{what, errEnded}
	case <-ctx.Done():
		return waitError{what, errors.Join(ctx.Err(), fmt.Errorf("%d objects are left", a.left.Load()))}
	}
}

func (a *audience) close() {
	a.cancel()
	a.ends.Wait()
}
