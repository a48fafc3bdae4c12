// Package integration tests the built binary the way that people use it, on
// hosts made of namespaces. Most tests share one server and work in a
// namespace of their own; those that stop servers or need special ones make
// their own hosts. Run it with `sudo make test`; KEEP=never|failure|always
// decides whose logs are kept.
package integration

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// suite and the servers that tests share are set up by TestMain.
var (
	suite *framework.Suite

	// plain starts a server without any setting, on an empty directory.
	plain func(testing.TB) *framework.Host
	// special starts the server of special_test.go.
	special func(testing.TB) *framework.Host
)

func TestMain(m *testing.M) {
	os.Exit(framework.Main(m, func(s *framework.Suite) {
		suite = s
		plain = shared(func(*framework.Host) ([]string, error) { return nil, nil })
		special = shared(specialArgs)
	}))
}

// shared makes a function whose first call starts a server on a host; all
// calls wait until it is ready and return the host.
func shared(prepare func(*framework.Host) ([]string, error)) func(testing.TB) *framework.Host {
	start := sync.OnceValues(func() (*framework.Host, error) {
		ctx := context.Background()
		h, err := suite.NewSharedHost(ctx)
		if err != nil {
			return nil, err
		}
		args, err := prepare(h)
		if err != nil {
			return nil, err
		}
		if err := h.Preload(ctx); err != nil {
			return nil, err
		}
		_, err = h.StartShared(ctx, args...)
		return h, err
	})
	return func(t testing.TB) *framework.Host {
		t.Helper()
		suite.Require(t)
		h, err := start()
		if err != nil {
			suite.NoteFailure()
			t.Fatal(err)
		}
		return h
	}
}

// cluster is a new namespace on the plain server.
func cluster(t *testing.T) *framework.Namespace {
	t.Helper()
	t.Parallel()
	return plain(t).NewNamespace(t)
}

// shell is a pod that runs a script in busybox and is not started again.
func shell(name, script string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox:test, command: [sh, -c, %q]}
---
`, name, script)
}

// idle is a pod that does nothing until it is told to.
func idle(name string) string { return shell(name, "exec sleep 100000") }

// web is a Deployment of the steerable server, and a Service for it.
func web(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: %d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: skiff/web:test
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /probe/ready, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: http}]
---
`, name, replicas)
}
