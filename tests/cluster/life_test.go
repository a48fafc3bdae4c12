package cluster

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// What happens to a cluster in years happens to this one in minutes, in each
// kind of network. A step leaves it as well as it was.
func TestCluster(t *testing.T) {
	framework.InEachKind(t, func(t *testing.T, k framework.Kind) {
		c := newTrio(t, k, nil)
		for _, step := range []struct {
			name string
			test func(*testing.T, *cluster)
		}{
			{"network", networkTests},
			{"nodes are drained, deleted and come back", testComingBack},
			{"a node that nobody can connect to", testNoInbound},
			{"every machine is rebooted", testReboots},
			{"the server's address changes", testServerMoves},
			{"a lost node's pods move", testLostNode},
		} {
			if !t.Run(step.name, func(t *testing.T) { step.test(t, c) }) {
				return // what comes next would tell nothing
			}
		}
	})
}

// forever is for pods that stay where they are, however slow their node is.
const forever = 100000

// movable is a Deployment whose pods are spread over the agents and leave a
// lost node after some seconds, and a Service for it.
func movable(leaveAfter int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: movable}
spec:
  replicas: 2
  selector: {matchLabels: {app: movable}}
  template:
    metadata: {labels: {app: movable}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {kind: agent}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        matchLabelKeys: [pod-template-hash]
        labelSelector: {matchLabels: {app: movable}}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: %[1]d}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: %[1]d}
      containers:
      - name: web
        image: skiff/web:test
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /probe/ready, port: http}, periodSeconds: 1, timeoutSeconds: 10}
---
apiVersion: v1
kind: Service
metadata: {name: movable}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: movable}
  ports: [{name: http, port: 80, targetPort: http}]
---
`, leaveAfter)
}

// newNamespace labels the agents' nodes and makes a namespace, when nothing is
// left of the steps before.
func (c *cluster) newNamespace(t *testing.T) *framework.Namespace {
	t.Helper()
	framework.Eventually(t, patience, "the pods of earlier steps are gone", func() error {
		out, err := c.server.Host.TryKubectl(t.Context(), "get", "pods", "-A", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("there are\n%s", out)
		}
		return err
	})
	for _, a := range c.agents {
		c.server.Host.Kubectl(t, "label", "--overwrite", "node", a.Host.Hostname(), "kind=agent")
	}
	return c.server.Host.NewNamespace(t)
}

// running are the nodes of the pods of movable that run and are not being
// deleted, sorted.
func running(t *testing.T, n *framework.Namespace) (nodes []string, err error) {
	out, err := n.TryKubectl(t.Context(), "get", "pods", "-l", "app=movable", "--sort-by=.spec.nodeName", "-o",
		`jsonpath={range .items[*]}{.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 && f[1] == "True" {
			nodes = append(nodes, f[0])
		}
	}
	return nodes, err
}

func awaitRunning(t *testing.T, n *framework.Namespace, want ...string) {
	t.Helper()
	framework.Eventually(t, patience, "pods run on "+strings.Join(want, ", "), func() error {
		nodes, err := running(t, n)
		if err == nil && strings.Join(nodes, " ") != strings.Join(want, " ") {
			err = fmt.Errorf("they run on %v", nodes)
		}
		return err
	})
}

// answers asks the Service on a host, at each of its addresses. A lost pod does
// not answer however long one waits, a slow one does.
func answers(t *testing.T, n *framework.Namespace, on *framework.Host) error {
	for _, ip := range strings.Fields(n.Get(t, "service/movable", ".spec.clusterIPs[*]")) {
		if _, err := on.Try(t.Context(), nil, "timeout", "20", "busybox", "wget", "-qO-", "http://"+net.JoinHostPort(ip, "80")); err != nil {
			return err
		}
	}
	return nil
}

// awaitService waits until the Service answers on every node, so that each
// reaches the pods of the others.
func (c *cluster) awaitService(t *testing.T, n *framework.Namespace) {
	t.Helper()
	for _, h := range c.hosts() {
		framework.Eventually(t, patience, "the Service answers on "+h.Hostname(), func() error {
			for range 4 { // some by either pod
				if err := answers(t, n, h); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func testComingBack(t *testing.T, c *cluster) {
	n := c.newNamespace(t)
	n.Apply(t, movable(forever))
	awaitRunning(t, n, "one", "two")

	n.Kubectl(t, "drain", "two", "--ignore-daemonsets", "--timeout=300s")
	awaitRunning(t, n, "one", "one")
	n.Kubectl(t, "uncordon", "two")

	// A machine that goes for good, and comes back after all.
	c.agents[0].MustStopCleanly(t)
	c.agents[0].Host.PowerOff(t)
	n.Kubectl(t, "delete", "node", "one")
	awaitRunning(t, n, "two", "two")
	c.agents[0].Host.PowerOn(t)
	c.agents[0] = c.agents[0].Host.StartAgent(t, c.server)
	c.agents[0].AwaitReady(t)
	c.server.Host.Kubectl(t, "label", "node", "one", "kind=agent")
	n.Kubectl(t, "rollout", "restart", "deployment/movable")
	awaitRunning(t, n, "one", "two")
	c.awaitService(t, n)

	// Another machine of the same name has to be let in.
	c.agents[1].Host.PowerOff(t)
	again := c.NewHost(t, "two")
	if err := again.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := again.StartAgent(t, c.server)
	refused.MustFail(t, patience)
	if log := refused.Logs(); !strings.Contains(log, "skiff kubectl delete node two") {
		t.Errorf("the refusal does not say what helps:\n%s", log)
	}
	n.Kubectl(t, "delete", "node", "two")
	c.agents[1] = again.StartAgent(t, c.server)
	c.agents[1].AwaitReady(t)
}

const alone = "/var/lib/skiff/agent/pod-manifests/alone.yaml"

func testReboots(t *testing.T, c *cluster) {
	n := c.newNamespace(t)
	n.Apply(t, movable(forever))
	awaitRunning(t, n, "one", "two")

	one := c.agents[0].Host
	one.WriteFile(t, alone, `
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "skiff/web:test"}]
`)
	lives := func() {
		t.Helper()
		for _, a := range one.Addresses() {
			outside(t, web(a.String(), "/"), is("hello from one"))
		}
	}
	lives()

	// An agent that starts while no server is there runs what needs none.
	c.server.Host.PowerOff(t)
	one.Reboot(t)
	c.startAgent(t, 0)
	lives()

	c.server.Host.PowerOn(t)
	c.startServer(t)
	for _, a := range c.agents {
		a.AwaitReady(t)
	}
	awaitRunning(t, n, "one", "two")
	c.awaitService(t, n)
	n.Kubectl(t, "-n", "default", "wait", "--for=condition=Ready", "--timeout=300s", "pod/alone-one")
	if log := c.server.Logs(); strings.Contains(log, "another machine's") {
		t.Errorf("a machine that was rebooted is taken for another:\n%s", log)
	}
	one.Exec(t, "rm", alone)
}

func testServerMoves(t *testing.T, c *cluster) {
	n := c.newNamespace(t)
	n.Apply(t, movable(forever))
	awaitRunning(t, n, "one", "two")
	c.server.MustStopCleanly(t)
	c.server.Host.ChangeAddress(t)
	c.startServer(t)
	for i, a := range c.agents {
		a.MustStopCleanly(t)
		c.startAgent(t, i)
		c.agents[i].AwaitReady(t)
	}
	testNodes(t, c)
	// From both agents to the server and back.
	awaitRunning(t, n, "one", "two")
	c.awaitService(t, n)
	n.Apply(t, strings.ReplaceAll(movable(forever), "movable", "after"))
	n.Kubectl(t, "rollout", "status", "deployment/after", "--timeout=300s")
}

// A node that is cut off is lost after node-monitor-grace-period, 50 s, and its
// pods 5 s after that.
func testLostNode(t *testing.T, c *cluster) {
	n := c.newNamespace(t)
	n.Apply(t, movable(5))
	awaitRunning(t, n, "one", "two")
	lost := c.agents[1].Host
	cut := time.Now()
	lost.Partition(t, nshost.Both)
	n.Kubectl(t, "wait", "--for=condition=Ready=Unknown", "--timeout=300s", "node/two")
	awaitRunning(t, n, "one", "one")

	// Nobody is sent to pods that may or may not be there.
	framework.Eventually(t, patience, "the Service has forgotten the lost pod", func() error {
		for range 10 {
			if err := answers(t, n, c.server.Host); err != nil {
				return err
			}
		}
		return nil
	})
	if missing := time.Minute - time.Since(cut); missing > 0 {
		framework.Consistently(t, missing, "the Service answers while the node is lost", func() error { return answers(t, n, c.server.Host) })
	}
	lost.Heal(t)
	n.Kubectl(t, "wait", "--for=condition=Ready", "--timeout=300s", "node/two")
	framework.Eventually(t, patience, "the lost pods are gone", func() error {
		out, err := n.TryKubectl(t.Context(), "get", "pods", "-l", "app=movable", "--no-headers")
		if err == nil && strings.Count(out, "\n") != 2 {
			err = fmt.Errorf("there are\n%s", out)
		}
		return err
	})
	// The node takes pods again, and they are reached.
	n.Kubectl(t, "scale", "deployment/movable", "--replicas=4")
	awaitRunning(t, n, "one", "one", "two", "two")
	c.awaitService(t, n)
}

// Machines made from one image have one host name.
func TestMachinesOfOneNameAreToldApart(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	hosts := []*framework.Host{c.NewHost(t, "server"), c.NewHost(t, "box"), c.NewHost(t, "box")}
	server := hosts[0].StartServer(t, "--disable-agent", "--disable-cloud-controller")
	server.Token(t)
	names := func(want int) string {
		t.Helper()
		var out string
		framework.Eventually(t, patience, fmt.Sprintf("%d nodes with identifiers", want), func() (err error) {
			out, err = hosts[0].TryKubectl(t.Context(), "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`)
			if err == nil && len(regexp.MustCompile(`(?m)^box-[0-9a-f]{8}$`).FindAllString(out, -1)) != want {
				err = fmt.Errorf("there are %q", out)
			}
			return err
		})
		return out
	}
	agents := []*framework.Agent{
		hosts[1].StartAgent(t, server, "--with-node-id"), hosts[2].StartAgent(t, server, "--with-node-id"),
	}
	before := names(2)
	for i, a := range agents {
		a.MustStopCleanly(t)
		hosts[i+1].StartAgent(t, server, "--with-node-id")
	}
	hosts[0].Kubectl(t, append([]string{"wait", "--for=condition=Ready", "--timeout=300s", "node"}, strings.Fields(before)...)...)
	if after := names(2); after != before {
		t.Errorf("the nodes were %q and are %q", before, after)
	}
	// Their cloud is somebody else's business.
	if got := hosts[0].Kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].spec.providerID}"); got != "" {
		t.Errorf("provider IDs without a cloud controller: %s", got)
	}
}
