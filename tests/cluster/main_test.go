// Package cluster tests a server with agents, each on a host of namespaces of
// its own, the way that people use them, in each kind of network. One cluster
// of each kind lives through most of the tests, one after the other, and those
// that need other settings make their own. Run it with `sudo make test`.
package cluster

import (
	"context"
	"errors"
	"flag"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// suite is set up by TestMain.
var suite *framework.Suite

// patience is for what a loaded machine takes long to do.
const patience = 5 * time.Minute

func TestMain(m *testing.M) {
	// What these tests do most of the time is waiting, so more of them go on
	// than there are processors. -parallel wins.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(framework.Main(m, func(s *framework.Suite) { suite = s }))
}

// cluster is a server and agents.
type cluster struct {
	*framework.Cluster
	args   []string // of the server, whenever it starts
	server *framework.Server
	agents []*framework.Agent
}

// hosts are those of all, the server's first.
func (c *cluster) hosts() []*framework.Host {
	hosts := []*framework.Host{c.server.Host}
	for _, a := range c.agents {
		hosts = append(hosts, a.Host)
	}
	return hosts
}

// startServer starts the server again, as it was started first.
func (c *cluster) startServer(t *testing.T) {
	t.Helper()
	c.server = c.server.Host.StartServer(t, c.args...)
	c.server.AwaitReady(t)
}

// startAgent starts an agent again, which needs no token any more.
func (c *cluster) startAgent(t *testing.T, i int) {
	t.Helper()
	c.agents[i] = c.agents[i].Host.StartAgentAs(t, c.server, nil, "--server", c.server.URL())
}

// newTrio starts a server, and then two agents at once, on hosts that are
// prepared first.
func newTrio(t *testing.T, k framework.Kind, prepare func(*framework.Host), serverArgs ...string) *cluster {
	t.Helper()
	c := &cluster{Cluster: suite.NewCluster(t, k.Families...), args: append(k.Server, serverArgs...)}
	if err := c.start(t.Context(), prepare, "server", "one", "two"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) start(ctx context.Context, prepare func(*framework.Host), names ...string) error {
	var hosts []*framework.Host
	for _, name := range names {
		h, err := c.AddHost(ctx, name)
		if err == nil {
			err = h.Preload(ctx)
		}
		if err != nil {
			return err
		}
		if prepare != nil {
			prepare(h)
		}
		hosts = append(hosts, h)
	}
	var err error
	if c.server, err = hosts[0].StartShared(ctx, c.args...); err != nil {
		return err
	}
	var starting sync.WaitGroup
	c.agents = make([]*framework.Agent, len(hosts)-1)
	errs := make([]error, len(c.agents))
	for i, h := range hosts[1:] {
		starting.Go(func() { c.agents[i], errs[i] = h.StartSharedAgent(ctx, c.server) })
	}
	starting.Wait()
	return errors.Join(errs...)
}

// everywhere is a web server and a shell on every node, and a Service for the
// web server.
const everywhere = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: web
        image: skiff/web:test
        ports: [{name: http, containerPort: 8080, hostPort: 8888}]
        readinessProbe: {httpGet: {path: /probe/ready, port: http}, periodSeconds: 1, timeoutSeconds: 10}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: shell}
spec:
  selector: {matchLabels: {app: shell}}
  template:
    metadata: {labels: {app: shell}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers: [{name: main, image: busybox:test, command: [sleep, "100000"]}]
---
`
