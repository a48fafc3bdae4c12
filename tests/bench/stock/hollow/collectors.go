package main

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/kubernetes/pkg/kubelet/metrics/collectors"
)

// registerTimeout is generous: the machine is busy when many nodes start.
const registerTimeout = time.Minute

// freeCollectors makes room for the next kubelet: each registers two collectors
// of metrics while it starts and ends the process when another one has. Nobody
// asks these kubelets for metrics. It waits until the latest has registered.
func freeCollectors() error {
	for _, c := range []metrics.StableCollector{
		collectors.NewVolumeStatsCollector(nil), collectors.NewLogMetricsCollector(nil),
	} {
		c.Create(nil, c) // so that it can say what it describes
		for _, registry := range []prometheus.Registerer{legacyregistry.Registerer(), prometheus.DefaultRegisterer} {
			if err := unregister(registry, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func unregister(registry prometheus.Registerer, c prometheus.Collector) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	end := time.After(registerTimeout)
	for !registry.Unregister(c) {
		select {
		case <-ticker.C:
		case <-end:
			return errors.New("the kubelet has not registered its metrics, as it did in version 1.36")
		}
	}
	return nil
}
