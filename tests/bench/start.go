package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// startTimeout is generous: the machine may be loaded.
const startTimeout = 3 * time.Minute

// coldStart measures from an empty directory to an API that is ready, a node
// that is Ready and a Deployment of two pods that is rolled out. The Deployment
// is created as soon as the API is ready, and tried again until it is accepted.
// Skiff also makes its certificates in this time and imports the image; stock's
// were made before.
func coldStart(ctx context.Context, s system, _ options, record recorder) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	begin := time.Now()
	if err := s.Start(ctx); err != nil {
		return err
	}
	client, err := awaitAPI(ctx, s)
	if err != nil {
		return err
	}
	record(value{"cold/api", "Cold start: API ready", "s", time.Since(begin).Seconds()})
	rolled := make(chan error, 1)
	var rolledAfter time.Duration
	go func() {
		err := rollOut(ctx, s, client)
		rolledAfter = time.Since(begin)
		rolled <- err
	}()
	if err := awaitNode(ctx, client, time.Time{}); err != nil {
		return err
	}
	record(value{"cold/node", "Cold start: node Ready", "s", time.Since(begin).Seconds()})
	if err := <-rolled; err != nil {
		return err
	}
	record(value{"cold/deployment", "Cold start: Deployment of 2 rolled out", "s", rolledAfter.Seconds()})
	u, err := used(s.Host())
	if err != nil {
		return err
	}
	record(value{"cold/cpu", "Cold start: CPU until then", "s", u.CPU})
	record(value{"cold/written", "Cold start: written to disk until then", "MiB", u.Written / 1024 / 1024})
	return components(ctx, s, record)
}

// restart measures a stop with SIGTERM and the start with state up to a
// heartbeat of the node that says that it is Ready.
func restart(ctx context.Context, s system, _ options, record recorder) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	begin := time.Now()
	if err := s.Stop(ctx); err != nil {
		return err
	}
	record(value{"warm/stop", "Stop", "s", time.Since(begin).Seconds()})
	begin = time.Now()
	if err := s.Start(ctx); err != nil {
		return err
	}
	client, err := awaitAPI(ctx, s)
	if err != nil {
		return err
	}
	record(value{"warm/api", "Restart with state: API ready", "s", time.Since(begin).Seconds()})
	if err := awaitNode(ctx, client, begin); err != nil {
		return err
	}
	record(value{"warm/node", "Restart with state: node Ready", "s", time.Since(begin).Seconds()})
	u, err := used(s.Host())
	if err != nil {
		return err
	}
	record(value{"warm/cpu", "Restart with state: CPU until then", "s", u.CPU})
	return nil
}

func awaitAPI(ctx context.Context, s system) (*kubernetes.Clientset, error) {
	config, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	if err := apiReady(ctx, s, config); err != nil {
		return nil, err
	}
	return newClient(config, protobuf)
}

// apiReady asks for /readyz until the answer is ok.
func apiReady(ctx context.Context, s system, config *rest.Config) error {
	client, err := newClient(config, protobuf)
	if err != nil {
		return err
	}
	return until(ctx, s, "the API is ready", func() error {
		// A request may hang in a server that is not ready to answer.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// awaitNode watches until a node is Ready by a heartbeat not older than since,
// which is compared in whole seconds as heartbeats are.
func awaitNode(ctx context.Context, client kubernetes.Interface, since time.Time) error {
	return watchUntil(ctx, func() (watch.Interface, error) {
		return client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	}, func(node *corev1.Node) bool {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return !c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second))
			}
		}
		return false
	})
}

// watchUntil watches objects until one fits. A watch that ends is begun again.
func watchUntil[T any](ctx context.Context, begin func() (watch.Interface, error), fits func(T) bool) error {
	return until(ctx, nil, "an object is as wanted", func() error {
		w, err := begin()
		if err != nil {
			return err
		}
		defer w.Stop()
		for event := range w.ResultChan() {
			if object, ok := event.Object.(T); ok && fits(object) {
				return nil
			}
		}
		return fmt.Errorf("the watch ended")
	})
}

func rollOut(ctx context.Context, s system, client kubernetes.Interface) error {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "idle"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "idle"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "idle"}}, Spec: idlePod()},
		},
	}
	deployments := client.AppsV1().Deployments(metav1.NamespaceDefault)
	if err := until(ctx, s, "the Deployment is accepted", func() error {
		_, err := deployments.Create(ctx, d, metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	return watchUntil(ctx, func() (watch.Interface, error) {
		return deployments.Watch(ctx, metav1.ListOptions{})
	}, func(d *appsv1.Deployment) bool {
		return d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas == *d.Spec.Replicas
	})
}

func idlePod() corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](0),
		Containers: []corev1.Container{{
			Name: "main", Image: "docker.io/library/busybox:test", ImagePullPolicy: corev1.PullNever,
			Command: []string{"sleep", "1000000"},
		}},
	}
}

// components adds Skiff's own record of its start, if it keeps one.
func components(ctx context.Context, s system, record recorder) error {
	if !isSkiff(s) {
		return nil
	}
	// The exit status says whether everything is ready, which is not asked.
	out, err := s.Host().Try(ctx, nil, "skiff", "status", "-o", "json")
	var status struct {
		Components []struct {
			Name                string  `json:"name"`
			StartedAfterSeconds float64 `json:"startedAfterSeconds"`
			ReadyAfterSeconds   float64 `json:"readyAfterSeconds"`
		} `json:"components"`
	}
	if parseErr := json.NewDecoder(strings.NewReader(out)).Decode(&status); parseErr != nil {
		return fmt.Errorf("reading the status of skiff: %w (%w)", parseErr, err)
	}
	for _, c := range status.Components {
		record(value{"start/" + c.Name, c.Name + " started", "s", c.StartedAfterSeconds})
		record(value{"ready/" + c.Name, c.Name + " ready", "s", c.ReadyAfterSeconds})
	}
	return nil
}
