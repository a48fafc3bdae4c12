//go:build tools

// Package e2e pins what scripts/conformance builds: upstream's test suite, the
// program that runs it in parallel, and the programs inside the images that it
// asks for. It is a module of its own so that none of this reaches the go.mod
// of the product; nobody imports it.
package e2e

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/kubernetes/test/images/nonewprivs"
	_ "k8s.io/kubernetes/test/images/regression-issue-74839"
	_ "k8s.io/sample-apiserver"
)
