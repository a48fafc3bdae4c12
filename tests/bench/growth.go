package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	podsPerAgent = 10
	// maxAgents is what the clusters' range of pod addresses has room for, beside
	// the real node.
	maxAgents = 255
	// growthWindow is how long a system is watched at each number of agents,
	// after growthSettle; growthTimeout bounds the way there.
	growthWindow  = time.Minute
	growthSettle  = 15 * time.Second
	growthTimeout = 5 * time.Minute
)

// growth adds simulated agents to a system that was started anew, with ten
// pods for each, and measures at each number how long it takes until the pods
// are Running and what the system holds and uses when nothing happens any more.
func growth(ctx context.Context, s system, o options, record recorder) error {
	client, err := again(ctx, s, o)
	if err != nil {
		return err
	}
	within, a := newAgents(ctx, s, o)
	defer a.close()
	if err := createGrowing(ctx, client); err != nil {
		return err
	}
	for _, n := range slices.Sorted(slices.Values(o.agents)) {
		if err := grow(within, s, client, a, n, record); err != nil {
			return fmt.Errorf("%d agents: %w", n, errors.Join(err, context.Cause(within)))
		}
	}
	return nil
}

func grow(ctx context.Context, s system, client kubernetes.Interface, a *agents, n int, record recorder) error {
	old := a.count
	begin := time.Now()
	if err := a.add(ctx, n); err != nil {
		return err
	}
	if err := awaitAgents(ctx, client, n); err != nil {
		return err
	}
	joined := time.Since(begin)
	before, err := used(s.Host())
	if err != nil {
		return err
	}
	took, err := growPods(ctx, client, podsPerAgent*old, podsPerAgent*n)
	if err != nil {
		return err
	}
	after, err := used(s.Host())
	if err != nil {
		return err
	}
	id, title := fmt.Sprintf("growth/%d/", n), numbered(n, "agent")+": "
	more := n - old
	record(value{id + "joined", fmt.Sprintf("%s%d more Ready", title, more), "s", joined.Seconds()})
	record(value{id + "running", fmt.Sprintf("%s%d more pods Running", title, podsPerAgent*more), "s", took.Seconds()})
	record(value{id + "pod", title + "CPU for each of them until then", "ms", 1000 * after.minus(before).CPU / float64(podsPerAgent*more)})
	return atRest(ctx, s, growthSettle, growthWindow, id, title, record)
}

// atRest lets a system settle and watches what it holds and uses for a while.
func atRest(ctx context.Context, s system, settle, window time.Duration, id, title string, record recorder) error {
	if err := pass(ctx, s, settle); err != nil {
		return err
	}
	before, err := used(s.Host())
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pass(ctx, s, window); err != nil {
		return err
	}
	after, err := used(s.Host())
	if err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds()
	_, all, err := held(s.Host())
	if err != nil {
		return err
	}
	record(value{id + "memory", title + "memory, PSS anonymous", "MiB", all.Anonymous})
	record(value{id + "cpu", title + "CPU at rest", "% of a core", 100 * after.minus(before).CPU / seconds})
	return nil
}

// awaitAgents waits until n agents are Ready.
func awaitAgents(ctx context.Context, client kubernetes.Interface, n int) error {
	ctx, cancel := context.WithTimeout(ctx, growthTimeout)
	defer cancel()
	ready := map[string]bool{}
	err := watchUntil(ctx, func() (watch.Interface, error) {
		clear(ready)
		return client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{LabelSelector: hollowLabel})
	}, func(node *corev1.Node) bool {
		ready[node.Name] = isReady(node)
		return trues(ready) >= n
	})
	if err != nil {
		return fmt.Errorf("%d of %d agents are Ready: %w", trues(ready), n, err)
	}
	return nil
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func trues(all map[string]bool) int {
	n := 0
	for _, is := range all {
		if is {
			n++
		}
	}
	return n
}

const growing = "growing"

// createGrowing creates the Deployment of the agents' pods, which the scheduler
// spreads over them, without any.
func createGrowing(ctx context.Context, client kubernetes.Interface) error {
	spec := idlePod()
	spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent // agents have no image from a start
	spec.NodeSelector = map[string]string{hollowLabel: "true"}
	labels := map[string]string{"app": growing}
	_, err := client.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: growing},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](0),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	return err
}

// growPods scales the Deployment and gives how long it took until all of its
// new pods were seen Running.
func growPods(ctx context.Context, client kubernetes.Interface, from, to int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, growthTimeout)
	defer cancel()
	_, w, err := watchPods(ctx, client, "app="+growing)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	begin := time.Now()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, to)
	_, err = client.AppsV1().Deployments(metav1.NamespaceDefault).Patch(ctx, growing, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return 0, err
	}
	at, err := awaitRunning(w, to-from)
	if err != nil {
		return 0, fmt.Errorf("watching pods when %d of %d new ones were running: %w", len(at), to-from, err)
	}
	return time.Since(begin), nil
}

// numbered is 1 thing, 2 things.
func numbered(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// checkAgents refuses more agents than can get addresses for their pods.
func checkAgents(all []int) error {
	for _, n := range all {
		if n > maxAgents {
			return fmt.Errorf("%d is too much for -agents: pods have addresses on at most %d agents", n, maxAgents)
		}
	}
	return nil
}

// again starts a system anew and on its default settings, so that what came
// before is no longer in its memory, waits for its node and lets it settle: when
// components choose a leader they first wait until the last one's time is over.
func again(whole context.Context, s system, o options) (*kubernetes.Clientset, error) {
	ctx, cancel := context.WithTimeout(whole, startTimeout)
	defer cancel()
	s.ServeWith()
	if err := s.Stop(ctx); err != nil {
		return nil, err
	}
	begin := time.Now()
	// The start may go on when this has returned.
	if err := s.Start(whole); err != nil {
		return nil, err
	}
	client, err := awaitAPI(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := awaitNode(ctx, client, begin); err != nil {
		return nil, err
	}
	return client, pass(whole, s, o.settle)
}
