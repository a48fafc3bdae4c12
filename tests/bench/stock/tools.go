//go:build tools

// Package stock pins the upstream programs that scripts/bench measures Skiff
// against, as kubeadm would install them. It is a module of its own so that
// what only they need stays out of the product's go.mod; all versions that
// both have are the same, which tests/bench checks. Nobody imports it.
package stock

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
