package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// Devices on an island, whose router is not there, and a pod network that is
// routes alone.
func TestHostsWithoutADefaultRoute(t *testing.T) {
	t.Parallel()
	c := newTrio(t, framework.DualStack(), func(h *framework.Host) {
		h.Exec(t, "ip", "route", "del", "default")
		h.Exec(t, "ip", "-6", "route", "del", "default")
	}, "--flannel-backend=host-gw")
	t.Run("nodes have the addresses of their hosts", func(t *testing.T) { testNodes(t, c) })
	g := newGrid(t, c)
	t.Run("pods of all nodes reach each other", func(t *testing.T) { testPods(t, g) })
	t.Run("names and ClusterIPs answer on every node", func(t *testing.T) { testServices(t, g) })
	t.Run("ClusterIPs answer in host networks", func(t *testing.T) {
		for _, ip := range strings.Fields(g.Get(t, "service/web", ".spec.clusterIPs[*]")) {
			for _, h := range g.hosts() {
				like := g.all(g.nodes()...)
				framework.Eventually(t, patience, ip+" from "+h.Hostname(), func() error {
					answer, err := h.Try(t.Context(), nil, "timeout", "20", "busybox", "wget", "-qO-", "http://"+net.JoinHostPort(ip, "80"))
					if err != nil {
						return err
					}
					return like(answer)
				})
			}
		}
	})
}

func networkTests(t *testing.T, c *cluster) {
	t.Run("nodes have the addresses of their hosts and share no pod addresses", func(t *testing.T) { testNodes(t, c) })
	g := newGrid(t, c)
	t.Run("pods of all nodes reach each other", func(t *testing.T) { testPods(t, g) })
	t.Run("names and ClusterIPs answer on every node", func(t *testing.T) { testServices(t, g) })
	t.Run("NodePorts answer on every node", func(t *testing.T) { testNodePorts(t, g) })
	t.Run("a local traffic policy keeps to the node and the client's address", func(t *testing.T) { testLocalPolicy(t, g) })
	t.Run("session affinity keeps to one pod", func(t *testing.T) { testAffinity(t, g) })
	t.Run("a headless Service names its pods", func(t *testing.T) { testHeadless(t, g) })
	t.Run("host ports and host networks are reached", func(t *testing.T) { testHostPorts(t, g) })
	t.Run("logs, exec and port-forward reach every node", func(t *testing.T) { testKubelets(t, g) })
}

func testNodes(t *testing.T, c *cluster) {
	framework.Eventually(t, patience, "nodes have the addresses of their hosts", func() error {
		seen := map[string]bool{}
		for _, h := range c.hosts() {
			if err := c.checkNode(t, h, seen); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkNode compares a node with its host, and with the pod addresses of the
// nodes that were seen before.
func (c *cluster) checkNode(t *testing.T, h *framework.Host, seen map[string]bool) error {
	node := "node/" + h.Hostname()
	internal := c.server.Host.Kubectl(t, "get", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
	want := strings.ReplaceAll(list(h.Addresses()), ",", " ")
	if internal != want {
		return fmt.Errorf("%s has the addresses %s, its host %s", node, internal, want)
	}
	cidrs := strings.Fields(c.server.Host.Kubectl(t, "get", node, "-o", `jsonpath={.spec.podCIDRs[*]}`))
	if len(cidrs) != len(h.Addresses()) {
		return fmt.Errorf("%s has the pod addresses %v", node, cidrs)
	}
	for _, cidr := range cidrs {
		if seen[cidr] {
			return framework.Permanent(fmt.Errorf("%s is two nodes'", cidr))
		}
		seen[cidr] = true
	}
	return nil
}

func testPods(t *testing.T, g *grid) {
	for _, shell := range g.shells {
		sums := strings.Fields(g.ExecIn(t, shell.name, "sh", "-c",
			"base64 /dev/urandom | head -c 1048576 >/tmp/mib; printf x >/tmp/byte; sha256sum /tmp/mib /tmp/byte"))
		var s script
		var want []string
		for _, to := range g.webs {
			for i, ip := range to.ips {
				s.get(web(ip, "/"))
				// Nobody stands between the pods of two nodes.
				s.get(web(ip, "/client"))
				// One packet, and many of the largest that fit: text, because
				// busybox posts no more than a string.
				s.get(web(ip, "/sum"), "--post-file", sums[1])
				s.get(web(ip, "/sum"), "--post-file", sums[3])
				want = append(want, "hello from "+to.name, shell.ips[i], sums[0], sums[2])
			}
		}
		g.ask(t, shell, "all pods", s, are(want))
	}
}

func testServices(t *testing.T, g *grid) {
	urls := []string{"http://web", "http://web." + g.Name + ".svc.cluster.local"}
	for _, ip := range strings.Fields(g.Get(t, "service/web", ".spec.clusterIPs[*]")) {
		urls = append(urls, "http://"+net.JoinHostPort(ip, "80"))
	}
	for _, shell := range g.shells {
		for _, url := range urls {
			g.ask(t, shell, url, times(12, url), g.all(g.nodes()...))
		}
	}
}

func testNodePorts(t *testing.T, g *grid) {
	g.Kubectl(t, "patch", "service", "web", "-p", `{"spec":{"type":"NodePort"}}`)
	port := g.Get(t, "service/web", ".spec.ports[0].nodePort")
	for _, h := range g.hosts() {
		for _, a := range h.Addresses() {
			url := "http://" + net.JoinHostPort(a.String(), port)
			outside(t, url, g.all(g.nodes()...))
			g.ask(t, g.shells[g.nodes()[0]], url, times(12, url), g.all(g.nodes()...))
		}
	}
}

func testLocalPolicy(t *testing.T, g *grid) {
	g.Apply(t, `
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`)
	port := g.Get(t, "service/local", ".spec.ports[0].nodePort")
	for _, h := range g.hosts() {
		for _, a := range h.Addresses() {
			url := "http://" + net.JoinHostPort(a.String(), port)
			for range 6 {
				outside(t, url, only("hello from "+g.webs[h.Hostname()].name))
			}
			outside(t, url+"/client", func(answer string) error {
				if client, err := netip.ParseAddr(strings.TrimSpace(answer)); err != nil || !g.machine(client) {
					return framework.Permanent(fmt.Errorf("the client is %q, which is not the machine's address", answer))
				}
				return nil
			})
		}
	}
}

// machine says whether an address is the one that this machine has on the
// cluster's network.
func (g *grid) machine(a netip.Addr) bool {
	for _, h := range g.hosts() {
		for _, own := range h.Addresses() {
			if own == a.Unmap() {
				return false
			}
		}
	}
	addrs, _ := net.InterfaceAddrs()
	for _, own := range addrs {
		if prefix, err := netip.ParsePrefix(own.String()); err == nil && prefix.Addr() == a.Unmap() {
			return true
		}
	}
	return false
}

func testAffinity(t *testing.T, g *grid) {
	g.Apply(t, `
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`)
	for _, shell := range g.shells {
		g.ask(t, shell, "a sticky Service", times(12, "http://sticky"), func(answers string) error {
			if all := slices.Compact(lines(answers)); len(all) != 1 {
				return framework.Permanent(fmt.Errorf("the answers are from %q", all))
			}
			return nil
		})
	}
}

func testHeadless(t *testing.T, g *grid) {
	g.Apply(t, `
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`)
	for _, shell := range g.shells {
		framework.Eventually(t, patience, shell.name+" looks headless up", func() error {
			out, err := g.TryExecIn(t.Context(), shell.name, "nslookup", "headless."+g.Name+".svc.cluster.local")
			for _, to := range g.webs {
				for _, ip := range to.ips {
					if err == nil && !strings.Contains(out, ip) {
						err = fmt.Errorf("%s is missing in %q", ip, out)
					}
				}
			}
			return err
		})
	}
}

func testHostPorts(t *testing.T, g *grid) {
	g.Apply(t, `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: host}
spec:
  selector: {matchLabels: {app: host}}
  template:
    metadata: {labels: {app: host}}
    spec:
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - {name: web, image: "skiff/web:test", ports: [{containerPort: 8080}]}
`)
	g.Kubectl(t, "rollout", "status", "daemonset/host", "--timeout=300s")
	hosts := g.pods(t, "host")
	var s script
	var want []string
	for _, h := range g.hosts() {
		for _, a := range h.Addresses() {
			hostPort := "http://" + net.JoinHostPort(a.String(), "8888")
			outside(t, hostPort, is("hello from "+g.webs[h.Hostname()].name))
			outside(t, web(a.String(), "/"), is("hello from "+h.Hostname()))
			s.get(hostPort)
			s.get(web(a.String(), "/"))
			want = append(want, "hello from "+g.webs[h.Hostname()].name, "hello from "+h.Hostname())
		}
		if got := hosts[h.Hostname()].ips[0]; got != h.Address().String() {
			t.Errorf("the pod in the host network of %s has the address %s", h.Hostname(), got)
		}
		// The cluster's names are for pods in the host network, too.
		outside(t, web(h.Address().String(), "/fetch?url=http://web."+g.Name+".svc.cluster.local"), func(answer string) error {
			if !strings.HasPrefix(answer, "hello from web-") {
				return fmt.Errorf("the answer is %q", answer)
			}
			return nil
		})
	}
	for _, shell := range g.shells {
		g.ask(t, shell, "all hosts", s, are(want))
	}
}

func testKubelets(t *testing.T, g *grid) {
	for node, shell := range g.shells {
		g.ExecIn(t, shell.name, "sh", "-c", "echo logged on "+node+" >/proc/1/fd/1")
		framework.Eventually(t, patience, "the log of "+shell.name, func() error {
			out, err := g.TryKubectl(t.Context(), "logs", shell.name)
			if err == nil {
				err = is("logged on " + node)(out)
			}
			return err
		})
		g.awaitForwarded(t, g.webs[node])
	}
}

// awaitForwarded forwards a port and asks there.
func (g *grid) awaitForwarded(t *testing.T, to pod) {
	t.Helper()
	forwarded := g.forward(t, to)
	framework.Eventually(t, patience, "a port of "+to.name, func() error {
		out, err := g.server.Host.Try(t.Context(), nil, "timeout", "20", "busybox", "wget", "-qO-", "http://127.0.0.1:"+forwarded)
		if err == nil {
			err = is("hello from " + to.name)(out)
		}
		return err
	})
}

// forward forwards a port of the server's host to a web server until the test
// ends, and gives the port's number.
func (g *grid) forward(t *testing.T, to pod) string {
	t.Helper()
	reader, writer := pipe(t)
	p, err := g.server.Host.Start(t.Context(), nshost.Cmd{
		Args: []string{"skiff", "kubectl", "-n", g.Name, "port-forward", to.name, ":8080"}, Stdout: writer,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(9)
		_, _ = p.Wait()
	})
	line, err := reader.ReadString('\n')
	_, rest, found := strings.Cut(line, "127.0.0.1:")
	port, _, _ := strings.Cut(rest, " ")
	if err != nil || !found {
		t.Fatalf("port-forward said %q: %v", line, err)
	}
	return port
}
