package servers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

func encryption(t *testing.T, h *framework.Host) (s protocol.EncryptionStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(h.Exec(t, "skiff", "secrets-encrypt", "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestServersChangeTheirKeysTogether replaces all that servers have to have the
// same, while all of them run, while one is down, and with other tokens.
func TestServersChangeTheirKeysTogether(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	hosts := []*framework.Host{c.NewHost(t, "a"), c.NewHost(t, "b"), c.NewHost(t, "c")}
	a, b := hosts[0], hosts[1]
	servers := []*framework.Server{a.StartServer(t, alone("--cluster-init")...)}
	awaitAPI(t, a)
	old := servers[0].Token(t)
	for _, h := range hosts[1:] {
		servers = append(servers, h.StartServer(t, alone("--server="+servers[0].URL(), "--token="+old)...))
		awaitAPI(t, h)
	}
	awaitEndpoints(t, a, 3)
	same := func(what, path string, among ...*framework.Host) {
		t.Helper()
		framework.Eventually(t, 2*time.Minute, what+" is the same on all servers", func() error {
			want := a.ReadFile(t, path)
			for _, h := range among {
				if h.ReadFile(t, path) != want {
					return fmt.Errorf("not on %s", h.Hostname())
				}
			}
			return nil
		})
	}
	const ring, ca, token = "/var/lib/skiff/server/cred/encryption-state.json", "/var/lib/skiff/server/tls/server-ca.crt", "/var/lib/skiff/server/token"
	readable := func() {
		t.Helper()
		for i, h := range hosts {
			name := fmt.Sprintf("secret-%d-%d", i, time.Now().UnixNano())
			h.Kubectl(t, "create", "secret", "generic", name, "--from-literal=key=x")
			for _, other := range hosts {
				framework.Eventually(t, time.Minute, "what "+h.Hostname()+" wrote can be read on "+other.Hostname(), func() error {
					_, err := other.TryKubectl(t.Context(), "get", "secret", name)
					return err
				})
			}
		}
	}
	readable()

	t.Run("the keys of Secrets", func(t *testing.T) {
		before := encryption(t, a).Keys[0].Name
		b.Exec(t, "skiff", "secrets-encrypt", "rotate-keys")
		s := encryption(t, b)
		if len(s.Keys) != 1 || s.Keys[0].Name == before || len(s.Servers) != 3 || s.Current != s.Secrets {
			t.Errorf("%+v", s)
		}
		for _, server := range s.Servers {
			if server.Hash != s.Servers[0].Hash {
				t.Errorf("they do not agree: %+v", s.Servers)
			}
		}
		same("the ring", ring, hosts[1:]...)
		readable()
	})

	t.Run("CAs", func(t *testing.T) {
		before := a.ReadFile(t, ca)
		a.Exec(t, "skiff", "certificate", "rotate-ca")
		if a.ReadFile(t, ca) == before {
			t.Error("nothing was replaced")
		}
		same("the CA", ca, hosts[1:]...)
		readable()
	})

	t.Run("tokens, one server being down", func(t *testing.T) {
		servers[2].MustStopCleanly(t)
		next := strings.TrimSpace(a.Exec(t, "skiff", "token", "rotate", "--new-token", "the-second"))
		agents := strings.TrimSpace(a.Exec(t, "skiff", "token", "rotate", "--agent"))
		if !strings.HasSuffix(next, "::server:the-second") || !strings.Contains(agents, "::node:") {
			t.Errorf("got %s and %s", next, agents)
		}
		same("the token", token, b)
		same("the agents' token", "/var/lib/skiff/server/agent-token", b)
		a.Exec(t, "skiff", "secrets-encrypt", "rotate-keys")
		servers[2] = hosts[2].StartServer(t, alone()...)
		awaitAPI(t, hosts[2])
		same("the token", token, hosts[2])
		same("the ring", ring, hosts[2])
		awaitEndpoints(t, a, 3)
		readable()

		// A new server needs the new token.
		d := c.NewHost(t, "d")
		refused := d.StartServer(t, alone("--server="+servers[0].URL(), "--token="+old)...)
		refused.MustFail(t, 2*time.Minute)
		if logs := refused.Logs(); !strings.Contains(logs, "the token is wrong") || strings.Contains(logs, "the-second") {
			t.Errorf("the log says %s", logs)
		}
		servers = append(servers, d.StartServer(t, alone("--server="+servers[0].URL(), "--token="+next)...))
		awaitAPI(t, d)
		awaitEndpoints(t, a, 4)
	})

	t.Run("who carries out a change is killed", func(t *testing.T) {
		var many strings.Builder
		for i := range 300 {
			fmt.Fprintf(&many, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: many-%d}\nstringData: {key: x}\n", i)
		}
		b.KubectlIn(t, strings.NewReader(many.String()), "create", "-f", "-")
		b.Exec(t, "skiff", "secrets-encrypt", "rotate-keys", "--no-wait")
		servers[1].Kill9(t)
		framework.Eventually(t, 3*time.Minute, "another server finishes it", func() error {
			r := a.Outcome(t, nshost.Cmd{Args: []string{"skiff", "secrets-encrypt", "status", "-o", "json"}})
			var s protocol.EncryptionStatus
			if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
				return errors.Join(err, errors.New(r.Stderr))
			}
			if s.Operation != nil || s.Current != s.Secrets {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		servers[1] = b.StartServer(t, alone()...)
		awaitAPI(t, b)
		same("the ring", ring, hosts[1:]...)
		readable()
	})
	for _, s := range servers {
		s.Kill9(t)
	}
}
