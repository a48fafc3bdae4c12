package servers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// alone are the arguments of servers whose node part no test needs.
func alone(args ...string) []string { return append([]string{"--disable-agent"}, args...) }

// endpoints are the addresses to which the Service kubernetes leads.
func endpoints(t *testing.T, h *framework.Host) []string {
	t.Helper()
	out, err := h.TryKubectl(t.Context(), "--request-timeout=10s", "get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[*].addresses[0]}")
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

func awaitEndpoints(t *testing.T, h *framework.Host, n int) {
	t.Helper()
	framework.Eventually(t, 3*time.Minute, fmt.Sprintf("the Service kubernetes leads to %d servers", n), func() error {
		if got := endpoints(t, h); len(got) != n {
			return fmt.Errorf("it leads to %v", got)
		}
		return nil
	})
}

func TestServersJoin(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	a, b := c.NewHost(t, "a"), c.NewHost(t, "b")
	first := a.StartServer(t, alone("--cluster-init")...)
	awaitAPI(t, a)
	token := first.Token(t)
	second := b.StartServer(t, alone("--server="+first.URL(), "--token="+token)...)
	awaitAPI(t, b)
	awaitEndpoints(t, b, 2)
	a.Kubectl(t, "create", "configmap", "kept")
	b.Kubectl(t, "get", "configmap", "kept")
	if second.MustStopCleanly(t); len(endpoints(t, a)) > 0 {
		t.Error("one of two servers answers alone: it has no majority")
	}
	first.MustStopCleanly(t)

	// Started again, one waits for the other and says so.
	first = a.StartServer(t, alone()...)
	framework.Eventually(t, time.Minute, "the server says for whom it waits", func() error {
		if log := first.Logs(); !strings.Contains(log, "2 of the cluster's 2 servers have to run; the others are b") {
			return errors.New("it does not")
		}
		return nil
	})
	second = b.StartServer(t, alone()...)
	awaitAPI(t, a)
	a.Kubectl(t, "get", "configmap", "kept")
	awaitAPI(t, b)
	second.Kill9(t)
	first.Kill9(t)
}

func TestAServerIsToldWhatDiffers(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	a, b := c.NewHost(t, "a"), c.NewHost(t, "b")
	first := a.StartServer(t, alone()...)
	awaitAPI(t, a)
	token := first.Token(t)
	join := func(args ...string) string {
		t.Helper()
		s := b.StartServer(t, alone(append([]string{"--server=" + first.URL()}, args...)...)...)
		s.MustFail(t, 2*time.Minute)
		return s.Logs()
	}
	for _, step := range []struct{ what, args, want string }{
		{"a server on SQLite", "--token=" + token, "restart this server with --cluster-init"},
		{"no token", "", "a token is needed to join"},
		{"another token", "--token=" + token + "x", "the token is wrong"},
		{"another cluster's token", "--token=K10" + strings.Repeat("0", 64) + "::server:x", "not to be trusted"},
	} {
		args := []string{}
		if step.args != "" {
			args = append(args, step.args)
		}
		if log := join(args...); !strings.Contains(log, step.want) {
			t.Errorf("%s: the server says\n%s\nwant %q in it", step.what, log, step.want)
		}
	}
	first.MustStopCleanly(t)
	first = a.StartServer(t, alone("--cluster-init", "--disable-kube-proxy")...)
	awaitAPI(t, a)
	log := join("--token="+token, "--cluster-cidr=10.99.0.0/16", "--cluster-domain=example.org")
	for _, want := range []string{
		`cluster-cidr is "10.99.0.0/16" there and "10.42.0.0/16" here`, `cluster-domain is "example.org" there and "cluster.local" here`,
		`disable-kube-proxy is "false" there and "true" here`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the server says\n%s\nwant %s in it", log, want)
		}
	}
	first.MustStopCleanly(t)
}
