package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

const (
	day            = 24 * time.Hour
	thirteenMonths = 396 * day
)

// awaitAlive waits until a node is Ready by the clock of the server's host,
// and not only as it was known before.
func awaitAlive(t *testing.T, server *framework.Host, node string, by time.Duration) {
	t.Helper()
	framework.Eventually(t, patience, "node "+node+" is Ready now", func() error {
		out, err := server.TryKubectl(t.Context(), "get", "node", node, "-o", `jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}`)
		if err != nil {
			return err
		}
		status, text, _ := strings.Cut(out, " ")
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || status != "True" || time.Now().Add(by).Sub(at) > day {
			return fmt.Errorf("%s, %v", out, err)
		}
		return nil
	})
}

// A box in the desert: server and agent were switched off for longer than their
// certificates lived, and the token that the agent joined with is long gone.
func TestMachinesThatWereOffForThirteenMonths(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	one, two := c.NewHost(t, "one"), c.NewHost(t, "two")
	server := one.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	token := strings.TrimSpace(one.Exec(t, "skiff", "token", "create"))
	agent := two.StartAgentAs(t, server, nil, "--server", server.URL(), "--token", token)
	agent.AwaitReady(t)
	agent.MustStopCleanly(t)
	server.MustStopCleanly(t)

	for _, h := range c.Hosts() {
		h.SetClock(t, thirteenMonths)
	}
	server = one.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	agent = two.StartAgentAs(t, server, nil, "--server", server.URL(), "--token", token)
	awaitAlive(t, one, "two", thirteenMonths)
	if logs := agent.Logs(); !strings.Contains(logs, "expired at") || strings.Contains(logs, token) {
		t.Errorf("the agent does not say what has expired:\n%s", logs)
	}

	// A node that was deleted is not let in by what has expired.
	agent.MustStopCleanly(t)
	one.Kubectl(t, "delete", "node", "two")
	server.MustStopCleanly(t)
	for _, h := range c.Hosts() {
		h.SetClock(t, 2*thirteenMonths)
	}
	server = one.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	agent = two.StartAgentAs(t, server, nil, "--server", server.URL(), "--token", token)
	agent.MustFail(t, patience)
	if logs := agent.Logs(); !strings.Contains(logs, "skiff token create") {
		t.Errorf("it does not say what to do:\n%s", logs)
	}
}

// A device without a battery for its clock starts in the past, and hears from
// a time server later.
func TestAServerWaitsForTheClock(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	h.SetClock(t, 0)
	server := h.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	before := h.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	server.MustStopCleanly(t)

	h.SetClock(t, -365*day)
	server = h.StartServer(t, "--disable-agent")
	framework.Eventually(t, patience, "it says that it waits", func() error {
		if !strings.Contains(server.Logs(), "Waiting for the clock to be set") {
			return fmt.Errorf("the log says %s", server.Logs())
		}
		return nil
	})
	server.SetClock(t, 0)
	h.SetClock(t, 0)
	server.AwaitAPI(t)
	if after := h.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"); after != before {
		t.Error("it made another cluster")
	}
	if n := strings.Count(server.Logs(), "Waiting for the clock to be set"); n > 120 {
		t.Errorf("it says so %d times", n)
	}
}
