package servers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// three are three servers and an agent. The last server has a node part.
type three struct {
	servers []*framework.Server
	agent   *framework.Agent
	args    [][]string
}

func startThree(t *testing.T) *three {
	t.Helper()
	c := suite.NewCluster(t)
	names := []string{"a", "b", "c"}
	var hosts []*framework.Host
	for _, name := range append(names, "agent") {
		hosts = append(hosts, c.NewHost(t, name))
	}
	x := &three{servers: make([]*framework.Server, 3)}
	x.args = [][]string{alone("--etcd-expose-metrics"), alone("--etcd-expose-metrics"), {"--etcd-expose-metrics"}}
	x.servers[0] = hosts[0].StartServer(t, append(x.args[0], "--cluster-init")...)
	awaitAPI(t, hosts[0])
	token := x.servers[0].Token(t)
	var joining sync.WaitGroup
	for i := 1; i < 3; i++ {
		x.servers[i] = hosts[i].StartServer(t, append(x.args[i], "--server="+x.servers[0].URL(), "--token="+token)...)
		joining.Go(func() { awaitAPI(t, hosts[i]) })
	}
	joining.Wait()
	x.agent = hosts[3].StartAgent(t, x.servers[0])
	awaitEndpoints(t, hosts[0], 3)
	x.agent.AwaitReady(t)
	return x
}

func (x *three) host(i int) *framework.Host { return x.servers[i].Host }

// leader is the server that leads etcd, as its metrics say.
func (x *three) leader(t *testing.T) int {
	t.Helper()
	at := -1
	framework.Eventually(t, time.Minute, "a server leads etcd", func() error {
		at = slices.IndexFunc(x.servers, func(s *framework.Server) bool {
			out, err := framework.Fetch("http://" + s.Host.Address().String() + ":2381/metrics")
			return err == nil && strings.Contains(out, "\netcd_server_is_leader 1")
		})
		if at < 0 {
			return errNot
		}
		return nil
	})
	return at
}

// awaitWhole waits until all servers are what they were.
func (x *three) awaitWhole(t *testing.T) {
	t.Helper()
	for i := range x.servers {
		awaitAPI(t, x.host(i))
	}
	awaitEndpoints(t, x.host(0), 3)
}

// awaitControllers waits until a Deployment that is made now has its ReplicaSet.
func (x *three) awaitControllers(t *testing.T, h *framework.Host, name string) {
	t.Helper()
	framework.Eventually(t, time.Minute, "a Deployment is made", func() error {
		_, err := h.TryKubectl(t.Context(), "create", "deployment", name, "--image=none.example/x", "--replicas=0")
		return err
	})
	framework.Eventually(t, 3*time.Minute, "the controllers work", func() error {
		out, err := h.TryKubectl(t.Context(), "get", "replicasets", "-l", "app="+name, "-o", "name")
		if err == nil && strings.TrimSpace(out) == "" {
			err = errNot
		}
		return err
	})
}

func TestThreeServersLoseOneAfterAnother(t *testing.T) {
	t.Parallel()
	x := startThree(t)
	work := startLoad(t, x.host(0), x.host(1), x.host(2))

	lost := x.leader(t)
	since := time.Now()
	x.servers[lost].Kill9(t)
	work.awaitWork(t, "kill -9 of the leader's server", since)
	other := (lost + 1) % 3
	x.awaitControllers(t, x.host(other), "after-kill")
	x.servers[lost] = x.host(lost).StartServer(t, x.args[lost]...)
	x.awaitWhole(t)

	lost = x.leader(t)
	since = time.Now()
	x.host(lost).Partition(t, nshost.Both)
	work.awaitWork(t, "cutting the leader's server off", since)
	pause(t, since, 20*time.Second)
	x.host(lost).Heal(t)
	x.awaitWhole(t)

	lost = x.leader(t)
	since = time.Now()
	if err := x.servers[lost].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	work.awaitWork(t, "stopping the leader's server", since)
	pause(t, since, time.Minute)
	if err := x.servers[lost].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.awaitWhole(t)
	work.stop(t)
	for _, s := range x.servers {
		select {
		case <-s.Done():
			t.Errorf("the server %s has ended", s.Host.Hostname())
		default:
		}
	}
	x.agentKnowsAll(t)
	x.leaseIsTaken(t)
	x.addressChanges(t)
	x.serverIsRemoved(t)
}

// pause waits until a fault has lasted as long as it is to.
func pause(t *testing.T, since time.Time, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), since.Add(d))
	defer cancel()
	<-ctx.Done()
}

// agentKnowsAll checks that the agent, which was told of one server, has a
// tunnel to each and finds the API without that one.
func (x *three) agentKnowsAll(t *testing.T) {
	t.Helper()
	for i := range x.servers {
		framework.Eventually(t, 2*time.Minute, "the agent has a tunnel to each server", func() error {
			if at := x.host(i).Address().String() + ":6443"; !strings.Contains(x.agent.Logs(), `server="`+at+`"`) {
				return fmt.Errorf("none to %s", at)
			}
			return nil
		})
		framework.Eventually(t, 2*time.Minute, "the kubelet of the agent answers through "+x.host(i).Hostname(), func() error {
			_, err := x.host(i).TryKubectl(t.Context(), "get", "--raw", "/api/v1/nodes/"+x.agent.Host.Hostname()+"/proxy/healthz")
			return err
		})
	}
	x.agent.AwaitReady(t)
}

// leaseIsTaken takes the lease from the server that leads: it goes on, and so
// do the controllers, of it or of another.
func (x *three) leaseIsTaken(t *testing.T) {
	t.Helper()
	h := x.host(0)
	holder := strings.TrimSpace(h.Kubectl(t, "-n", "kube-system", "get", "lease", "skiff-controllers", "-o", "jsonpath={.spec.holderIdentity}"))
	node, _, _ := strings.Cut(holder, "_")
	at := slices.IndexFunc(x.servers, func(s *framework.Server) bool { return s.Host.Hostname() == node })
	if at < 0 {
		t.Fatalf("%q holds the lease", holder)
	}
	h.Kubectl(t, "-n", "kube-system", "patch", "lease", "skiff-controllers", "--type=merge", "-p", `{"spec":{"holderIdentity":"nobody"}}`)
	framework.Eventually(t, 2*time.Minute, "the server notices that it leads no more", func() error {
		if !strings.Contains(x.servers[at].Logs(), "This server does not lead any more") {
			return errNot
		}
		return nil
	})
	x.awaitControllers(t, h, "after-lease")
	select {
	case <-x.servers[at].Done():
		t.Errorf("the server ended with the lease:\n%s", x.servers[at].Logs())
	default:
	}
}

// addressChanges gives a server another address while it is stopped. The others
// find it there: without a third one, they are the majority together.
func (x *three) addressChanges(t *testing.T) {
	t.Helper()
	moved := x.host(1)
	x.servers[1].MustStopCleanly(t)
	before := moved.Address()
	moved.ChangeAddress(t)
	x.servers[1] = moved.StartServer(t, x.args[1]...)
	x.awaitWhole(t)
	if at := endpoints(t, x.host(2)); slices.Contains(at, before.String()) || !slices.Contains(at, moved.Address().String()) {
		t.Errorf("the API is at %v, and the server that was at %s is at %s", at, before, moved.Address())
	}
	x.servers[2].Kill9(t)
	x.awaitControllers(t, x.host(0), "after-move")
	x.servers[2] = x.host(2).StartServer(t, x.args[2]...)
	x.awaitWhole(t)
	x.agentKnowsAll(t)
}

// serverIsRemoved deletes the Node of the server that has one.
func (x *three) serverIsRemoved(t *testing.T) {
	t.Helper()
	h, gone := x.host(0), x.servers[2]
	framework.Eventually(t, 2*time.Minute, "the server's node is there", func() error {
		_, err := h.TryKubectl(t.Context(), "get", "node", gone.Host.Hostname())
		return err
	})
	framework.Eventually(t, time.Minute, "the Node is deleted", func() error { // it may have led etcd
		_, err := h.TryKubectl(t.Context(), "delete", "node", "--ignore-not-found", gone.Host.Hostname())
		return err
	})
	gone.MustFail(t, 3*time.Minute)
	if log := gone.Logs(); !strings.Contains(log, "this server was removed from the cluster") {
		t.Errorf("the removed server does not say why it ended:\n%s", log)
	}
	// Two voters are left: they are the majority of two, not of three.
	awaitAPI(t, x.host(0))
	x.awaitControllers(t, x.host(1), "after-removal")
	started := gone.Host.StartServer(t, x.args[2]...)
	started.MustFail(t, 2*time.Minute)
	if log := started.Logs(); !strings.Contains(log, "--server and --token") {
		t.Errorf("a removed server that is started again does not say how to join:\n%s", log)
	}
	gone.Host.Exec(t, "rm", "-rf", "/var/lib/skiff/server/db/etcd")
	gone.Host.StartServer(t, append(slices.Clone(x.args[2]), "--server="+x.servers[1].URL(), "--token="+x.servers[1].Token(t))...)
	awaitAPI(t, gone.Host)
	awaitEndpoints(t, h, 3)
}
