package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	objects = 500 // ConfigMaps in each round
	lists   = 50  // each of all of them
)

// apiLoad creates, reads, updates, lists and deletes ConfigMaps of 100 bytes
// through one TLS connection, several at a time, and measures each request and
// the CPU time that the system spends on each kind.
func apiLoad(ctx context.Context, s system, o options, record recorder) error {
	config, err := s.Config(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []string{jsonObjects, protobuf} {
		client, err := newClient(config, kind)
		if err != nil {
			return err
		}
		for _, c := range o.concurrency {
			r := round{s: s, maps: client.CoreV1().ConfigMaps(metav1.NamespaceDefault), at: c, kind: kindName(kind), record: record}
			if err := r.run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

type round struct {
	s      system
	maps   typed.ConfigMapInterface
	at     int // requests at a time
	kind   string
	record recorder
}

func (r round) run(ctx context.Context) error {
	name := func(i int) string { return fmt.Sprintf("load-%d", i) }
	object := func(i int, text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name(i), Labels: map[string]string{"load": "true"}},
			Data:       map[string]string{"key": strings.Repeat(text, 100)},
		}
	}
	steps := []struct {
		what  string
		times int
		do    func(i int) error
	}{
		{"create", objects, func(i int) error {
			_, err := r.maps.Create(ctx, object(i, "a"), metav1.CreateOptions{})
			return err
		}},
		{"get", objects, func(i int) error {
			_, err := r.maps.Get(ctx, name(i), metav1.GetOptions{})
			return err
		}},
		{"update", objects, func(i int) error {
			_, err := r.maps.Update(ctx, object(i, "b"), metav1.UpdateOptions{})
			return err
		}},
		{"list", lists, func(int) error {
			_, err := r.maps.List(ctx, metav1.ListOptions{LabelSelector: "load=true"})
			return err
		}},
		{"delete", objects, func(i int) error { return r.maps.Delete(ctx, name(i), metav1.DeleteOptions{}) }},
	}
	for _, step := range steps {
		if err := r.measure(step.what, step.times, step.do); err != nil {
			return err
		}
	}
	return nil
}

func (r round) measure(what string, times int, do func(i int) error) error {
	before, err := used(r.s.Host())
	if err != nil {
		return err
	}
	begin := time.Now()
	took, err := concurrently(r.at, times, do)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	seconds := time.Since(begin).Seconds()
	after, err := used(r.s.Host())
	if err != nil {
		return err
	}
	slices.Sort(took)
	id := fmt.Sprintf("api/%s/%d/%s/", r.kind, r.at, what)
	title := fmt.Sprintf("%s, %d at a time, %s: ", r.kind, r.at, what)
	r.record(value{id + "rate", title + "rate", "1/s", float64(times) / seconds})
	r.record(value{id + "p50", title + "p50", "ms", milliseconds(took, 50)})
	r.record(value{id + "p99", title + "p99", "ms", milliseconds(took, 99)})
	r.record(value{id + "cpu", title + "CPU per request", "ms", 1000 * after.minus(before).CPU / float64(times)})
	return nil
}

// milliseconds is a percentile of sorted durations.
func milliseconds(sorted []time.Duration, percent int) float64 {
	return sorted[(len(sorted)-1)*percent/100].Seconds() * 1000
}

// concurrently calls do for 0 to times-1, at most at at a time, and gives how
// long each call took.
func concurrently(at, times int, do func(i int) error) ([]time.Duration, error) {
	took, errs := make([]time.Duration, times), make([]error, times)
	next := make(chan int)
	var workers sync.WaitGroup
	for range at {
		workers.Go(func() {
			for i := range next {
				begin := time.Now()
				errs[i] = do(i)
				took[i] = time.Since(begin)
			}
		})
	}
	for i := range times {
		next <- i
	}
	close(next)
	workers.Wait()
	return took, errors.Join(errs...)
}
