package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// podTimeout bounds one wave of pods.
const podTimeout = 5 * time.Minute

// wave selects the pods of a wave.
const wave = "wave=true"

// podLoad creates waves of idle pods at once and measures the time from each
// create to the first watch event that shows the pod Running, the CPU time of
// the system for it, and by how much the memory of the system, its shims and
// the containers grows.
func podLoad(ctx context.Context, s system, o options, record recorder) error {
	if len(o.pods) == 0 {
		return nil
	}
	config, err := s.Config(ctx)
	if err != nil {
		return err
	}
	client, err := newClient(config, protobuf)
	if err != nil {
		return err
	}
	for _, n := range o.pods {
		if err := podWave(ctx, s, client, n, record); err != nil {
			return err
		}
	}
	return nil
}

func podWave(ctx context.Context, s system, client kubernetes.Interface, n int, record recorder) error {
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	before, err := used(s.Host())
	if err != nil {
		return err
	}
	memory, err := podMemory(s)
	if err != nil {
		return err
	}
	took, err := createPods(ctx, client, n)
	if err != nil {
		return err
	}
	after, err := used(s.Host())
	if err != nil {
		return err
	}
	grown, err := podMemory(s)
	if err != nil {
		return err
	}
	slices.Sort(took)
	id, title := fmt.Sprintf("pods/%d/", n), numbered(n, "pod")+" at once: "
	record(value{id + "p50", title + "create to Running, median pod", "s", took[len(took)/2].Seconds()})
	record(value{id + "last", title + "create to Running, last pod", "s", took[len(took)-1].Seconds()})
	record(value{id + "cpu", title + "CPU per pod", "s", after.minus(before).CPU / float64(n)})
	record(value{id + "memory", title + "memory per pod, shim and containers", "MiB", (grown.pods - memory.pods) / float64(n)})
	if n >= 10 { // with fewer it is chance
		record(value{id + "system", title + "memory per pod, the system's", "MiB", (grown.system - memory.system) / float64(n)})
	}
	return deletePods(ctx, client)
}

// createPods gives how long each pod took to be seen Running.
func createPods(ctx context.Context, client kubernetes.Interface, n int) ([]time.Duration, error) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	_, w, err := watchPods(ctx, client, wave)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	// The API server gives up on a watch that is not read meanwhile.
	var at map[string]time.Time
	running := make(chan error, 1)
	go func() {
		var err error
		at, err = awaitRunning(w, n)
		running <- err
	}()
	begun := make([]time.Time, n)
	if _, err := concurrently(min(n, 16), n, func(i int) error {
		begun[i] = time.Now()
		_, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: podName(i), Labels: map[string]string{"wave": "true"}},
			Spec:       idlePod(),
		}, metav1.CreateOptions{})
		return err
	}); err != nil {
		return nil, err
	}
	if err := <-running; err != nil {
		return nil, fmt.Errorf("watching pods when %d of %d were running: %w", len(at), n, err)
	}
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = at[podName(i)].Sub(begun[i])
	}
	return took, nil
}

// watchPods lists pods and watches what happens after that, as controllers do:
// a connection that ends is taken up where it ended.
func watchPods(ctx context.Context, client kubernetes.Interface, selector string) (*corev1.PodList, watch.Interface, error) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, nil, err
	}
	begin := func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.LabelSelector = selector
		return pods.Watch(ctx, o)
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: begin})
	return list, w, err
}

func podName(i int) string { return fmt.Sprintf("wave-%d", i) }

// awaitRunning gives when each pod was first seen Running. It returns when n
// are, or when the watch ends.
func awaitRunning(w watch.Interface, n int) (map[string]time.Time, error) {
	at := map[string]time.Time{}
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			return at, apierrors.FromObject(event.Object)
		}
		p, ok := event.Object.(*corev1.Pod)
		if !ok || p.Status.Phase != corev1.PodRunning || !at[p.Name].IsZero() {
			continue
		}
		at[p.Name] = time.Now()
		if len(at) == n {
			return at, nil
		}
	}
	return at, errors.New("the watch ended")
}

// deletePods waits until they are gone.
func deletePods(ctx context.Context, client kubernetes.Interface) error {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	list, w, err := watchPods(ctx, client, wave)
	if err != nil {
		return err
	}
	left := len(list.Items)
	defer w.Stop()
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: wave}); err != nil {
		return err
	}
	for left > 0 {
		event, ok := <-w.ResultChan()
		if !ok {
			return fmt.Errorf("waiting until the pods are gone: %d are left", left)
		}
		if event.Type == watch.Deleted {
			left--
		}
	}
	return nil
}

// shared is PSS in MiB of everything on a host: of the system, and of shims and
// containers.
type shared struct{ system, pods float64 }

func podMemory(s system) (shared, error) {
	own, err := processes(s.Host())
	if err != nil {
		return shared{}, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return shared{}, err
	}
	var sum shared
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		groups, err := os.ReadFile(proc(pid, "cgroup"))
		if err != nil || !strings.Contains(string(groups), "/skifftest-"+s.Host().ID()) {
			continue
		}
		pss := field(proc(pid, "smaps_rollup"), "Pss:") / 1024
		if own[pid] != "" {
			sum.system += pss
		} else {
			sum.pods += pss
		}
	}
	return sum, nil
}
