package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/join"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// bootstrapTokens uses them as an administrator does.
func bootstrapTokens(t *testing.T, s *joinServer) {
	create := func(args ...string) token.Token {
		t.Helper()
		return mustParse(t, strings.TrimSpace(s.Exec(t, append([]string{"skiff", "token", "create"}, args...)...)))
	}
	refused := func(m *machine, want string) {
		t.Helper()
		if _, err := m.join(t); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), m.cfg.Token.Secret()) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	good := create("--description", "for the test")
	if good.Hash() != s.serverToken.Hash() || !good.Bootstrap() {
		t.Fatalf("created %s", good)
	}
	s.machine(t, "boot1", 81, good).mustJoin(t)
	s.machine(t, "boot2", 82, mustParse(t, good.Bearer())).mustJoin(t) // the short form, and once more

	t.Run("it is listed without its secret", func(t *testing.T) {
		var list []struct {
			ID, Description string
			Expires         time.Time
			Groups          []string
		}
		out := s.Exec(t, "skiff", "token", "list", "-o", "json")
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		left := time.Duration(0)
		if len(list) == 1 {
			left = time.Until(list[0].Expires)
		}
		if len(list) != 1 || list[0].ID != good.ID() || list[0].Description != "for the test" || left < 23*time.Hour || left > 24*time.Hour || len(list[0].Groups) != 1 {
			t.Errorf("listed as %s", out)
		}
		for _, format := range []string{"table", "json", "yaml"} {
			if out := s.Exec(t, "skiff", "token", "list", "-o", format); strings.Contains(out, good.Secret()) || !strings.Contains(out, good.ID()) {
				t.Errorf("%s: %s", format, out)
			}
		}
	})
	t.Run("it lets a machine join and no more", func(t *testing.T) {
		c := bearer("the bootstrap token", good.Bearer())
		for path, want := range map[string]int{protocol.PathConfig: 200, protocol.Prefix + "other": 404} {
			if got := s.ask(t, c, "GET", path, "", nil); got.status != want {
				t.Errorf("%s: %d, want %d", path, got.status, want)
			}
		}
		if got := s.post(t, c, protocol.PathToken, protocol.TokenRequest{}); got.status != http.StatusForbidden {
			t.Errorf("it replaces the server token: %d", got.status)
		}
		// The API itself knows it, in a group that may do nothing.
		if got := s.ask(t, c, "GET", "/api/v1/nodes", "", nil); got.status != http.StatusForbidden {
			t.Errorf("nodes: %d", got.status)
		}
	})
	t.Run("a wrong secret", func(t *testing.T) {
		refused(s.machine(t, "boot3", 83, mustParse(t, good.ID()+".aaaaaaaaaaaaaaaa").Pinned(good.Hash())), "not known")
	})
	t.Run("a deleted one", func(t *testing.T) {
		s.Exec(t, "skiff", "token", "delete", good.ID())
		refused(s.machine(t, "boot3", 83, good), "not known")
		if r := s.Outcome(t, nshost.Cmd{Args: []string{"skiff", "token", "delete", good.ID()}}); r.Code != 1 || !strings.Contains(r.Stderr, "there is no bootstrap token "+good.ID()) {
			t.Errorf("deleting it again: %+v", r)
		}
	})
	t.Run("an expired one", func(t *testing.T) {
		short := create("--ttl", "1s")
		framework.Eventually(t, joinPatience, "it is refused", func() error {
			got := s.ask(t, bearer("an expired token", short.Bearer()), "GET", protocol.PathConfig, "", nil)
			if got.status != http.StatusUnauthorized {
				return fmt.Errorf("%d", got.status)
			}
			return nil
		})
		// The controller manager removes it.
		framework.Eventually(t, joinPatience, "it is removed", func() error {
			if out := s.Exec(t, "skiff", "token", "list", "-o", "json"); strings.Contains(out, short.ID()) {
				return fmt.Errorf("still there: %s", out)
			}
			return nil
		})
	})
	t.Run("others", func(t *testing.T) {
		refused(s.machine(t, "boot3", 83, create("--usages", "signing", "--groups", "")), "not for authentication")
		refused(s.machine(t, "boot3", 83, create("--groups", "system:bootstrappers:others")), "is not in the group")
		chosen := strings.TrimSpace(s.Exec(t, "skiff", "token", "generate"))
		if got := create(chosen); got.Bearer() != chosen {
			t.Errorf("asked for %s, got %s", chosen, got)
		}
		s.machine(t, "boot4", 84, mustParse(t, chosen)).mustJoin(t)
		if r := s.Outcome(t, nshost.Cmd{Args: []string{"skiff", "token", "create", chosen}}); r.Code != 1 || !strings.Contains(r.Stderr, "already exists") || strings.Contains(r.Stderr, chosen) {
			t.Errorf("the same again: %+v", r)
		}
	})
}

// rotation replaces the server token while the server runs.
func rotation(t *testing.T, s *joinServer) {
	old := s.serverToken
	before := s.machine(t, "before", 91, old)
	before.mustJoin(t)
	now := mustParse(t, strings.TrimSpace(s.Exec(t, "skiff", "token", "rotate")))
	holds := func(now token.Token, before ...token.Token) {
		t.Helper()
		if got := readToken(t, s.Host, "token"); got.Reveal() != now.Reveal() || now.Hash() != old.Hash() || now.User() != token.UserServer {
			t.Errorf("the file has %s, want %s", got, now)
		}
		if got := s.ask(t, basic("the new token", "server", now.Secret()), "GET", protocol.PathConfig, "", nil); got.status != http.StatusOK {
			t.Errorf("the new token: %d %s", got.status, got.body)
		}
		for _, tok := range before {
			if got := s.ask(t, basic("an old token", "server", tok.Secret()), "GET", protocol.PathConfig, "", nil); got.status != http.StatusUnauthorized {
				t.Errorf("an old token: %d", got.status)
			}
		}
		if got := s.ask(t, basic("the agent token", "node", s.agentToken.Secret()), "GET", protocol.PathConfig, "", nil); got.status != http.StatusOK {
			t.Errorf("the agent token: %d", got.status)
		}
	}
	holds(now, old)
	// Who has joined stays, without any token.
	before.cfg.Token = token.Token{}
	before.mustJoin(t)

	// With the token alone, from elsewhere.
	answer, err := join.Rotate(t.Context(), s.url, now, "chosen-by-the-test", false)
	if err != nil || answer.Warning != "" {
		t.Fatalf("%+v, %v", answer, err)
	}
	next := mustParse(t, answer.Token)
	if next.Secret() != "chosen-by-the-test" {
		t.Errorf("got %s", next)
	}
	holds(next)
	for name, tok := range map[string]token.Token{"the agent token": s.agentToken, "one of another CA": next.Pinned(strings.Repeat("ab", 32)), "the old token": now} {
		if _, err := join.Rotate(t.Context(), s.url, tok, "", false); err == nil || strings.Contains(err.Error(), tok.Secret()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := s.Outcome(t, nshost.Cmd{Args: []string{"skiff", "token", "rotate", "--kubeconfig=/nowhere", "--new-token", "given-once", "--token-file", "/var/lib/skiff/server/token"}})
	last := mustParse(t, strings.TrimSpace(r.Stdout))
	if r.Code != 0 || last.Secret() != "given-once" {
		t.Fatalf("%+v", r)
	}
	holds(last)
	if logs := s.server.Logs(); !strings.Contains(logs, "server token was replaced") || strings.Contains(logs, "given-once") || strings.Contains(logs, "chosen-by-the-test") {
		t.Error("the log does not say so, or has a token")
	}

	// A restart keeps it, and refuses another. Half a request does not hold
	// up the end.
	_ = s.slowBody(t)
	s.server.MustStopCleanly(t)
	wrong := s.start(t, "--token="+old.Secret())
	wrong.MustFail(t, joinPatience)
	if logs := wrong.Logs(); !strings.Contains(logs, "is not the one of this cluster") || strings.Contains(logs, old.Secret()) || strings.Contains(logs, last.Secret()) {
		t.Errorf("the log says %s", logs)
	}
	s.server = s.start(t, "--token="+last.Secret())
	s.server.AwaitReady(t)
	holds(last, next, now, old)
	if title := s.Exec(t, "sh", "-c", "cat /proc/[0-9]*/cmdline"); strings.Contains(title, last.Secret()) {
		t.Error("the token is in the process list")
	}
	// Who keeps it in the server's configuration is told to change it there.
	if r := s.Outcome(t, nshost.Cmd{Args: []string{"skiff", "token", "rotate"}}); r.Code != 0 || !strings.Contains(r.Stderr, "its next start ends with an error") {
		t.Errorf("%+v", r)
	}
}
