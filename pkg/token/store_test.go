package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

func testLayout(t *testing.T) layout.Layout {
	t.Helper()
	dir := t.TempDir()
	l := layout.Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")}
	if err := os.MkdirAll(l.Server(), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

func parsed(t *testing.T, text string) Token {
	t.Helper()
	tok, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestStoreMakesTokensOnceAndKeepsThem(t *testing.T) {
	l, ca := testLayout(t), bundle(newCA(t, "ca", nil))
	s, err := Open(l, ca, Given{})
	if err != nil {
		t.Fatal(err)
	}
	text := content(t, l.ServerToken())
	if want := "K10" + sum(ca) + "::server:"; !strings.HasPrefix(text, want) {
		t.Fatalf("the token is %s", text)
	}
	for _, path := range []string{l.NodeToken(), l.AgentToken()} {
		if to, err := os.Readlink(path); err != nil || to != "token" {
			t.Errorf("%s leads to %q, %v", path, to, err)
		}
	}
	if info, err := os.Stat(l.ServerToken()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	password := parsed(t, text).Secret()
	for _, c := range []struct {
		user, password string
		want           Role
	}{
		{"server", password, Server}, {"node", password, Node}, {"admin", password, Nobody}, {"", password, Nobody},
		{"server", "", Nobody}, {"node", "", Nobody}, {"server", password + "x", Nobody}, {"node", password[1:], Nobody},
	} {
		if got := s.Check(c.user, c.password); got != c.want {
			t.Errorf("%s with a password of %d characters is %v, want %v", c.user, len(c.password), got, c.want)
		}
	}
	if _, err := Open(l, ca, Given{}); err != nil || content(t, l.ServerToken()) != text {
		t.Errorf("a second start: %v, %s", err, content(t, l.ServerToken()))
	}
	if _, err := Open(l, ca, Given{Server: parsed(t, text)}); err != nil {
		t.Errorf("with the same token given: %v", err)
	}
}

func TestStoreTakesGivenTokens(t *testing.T) {
	l, ca := testLayout(t), bundle(newCA(t, "ca", nil))
	s, err := Open(l, ca, Given{Server: parsed(t, "strong"), Agent: parsed(t, "weak")})
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, l.AgentToken()); got != "K10"+sum(ca)+"::node:weak" {
		t.Errorf("the agent token is %s", got)
	}
	for _, c := range []struct {
		user, password string
		want           Role
	}{{"server", "strong", Server}, {"server", "weak", Nobody}, {"node", "weak", Node}, {"node", "strong", Node}} {
		if got := s.Check(c.user, c.password); got != c.want {
			t.Errorf("%s:%s is %v, want %v", c.user, c.password, got, c.want)
		}
	}
	// Its own agent token stays when it is no longer given.
	if s, err = Open(l, ca, Given{}); err != nil || s.Check("node", "weak") != Node {
		t.Errorf("a start without it: %v", err)
	}
	if s, err = Open(l, ca, Given{Agent: parsed(t, "other")}); err != nil || s.Check("node", "weak") != Nobody || s.Check("node", "other") != Node {
		t.Errorf("another one: %v", err)
	}
}

func TestStoreRefuses(t *testing.T) {
	ca := bundle(newCA(t, "ca", nil))
	for name, tt := range map[string]struct {
		given Given
		want  string
	}{
		"another token than the cluster's": {Given{Server: parsed(t, "other-secret")}, "is not the one of this cluster"},
		"a token of another cluster":       {Given{Server: parsed(t, "K10"+hash+"::server:mine-secret")}, "of another cluster"},
		"a bootstrap token":                {Given{Server: parsed(t, "abc123.0123456789abcdef")}, "form of a bootstrap token"},
		"a bootstrap token for agents":     {Given{Agent: parsed(t, "abc123.0123456789abcdef")}, "form of a bootstrap token"},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLayout(t)
			if _, err := Open(l, ca, Given{Server: parsed(t, "mine-secret")}); err != nil {
				t.Fatal(err)
			}
			_, err := Open(l, ca, tt.given)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "0123456789abcdef::") {
				t.Errorf("got %v, want %q and no secret", err, tt.want)
			}
			if got := content(t, l.ServerToken()); got != "K10"+sum(ca)+"::server:mine-secret" {
				t.Errorf("the file is now %s", got)
			}
		})
	}
	l := testLayout(t)
	if err := os.WriteFile(l.ServerToken(), []byte("K10broken::x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(l, ca, Given{}); err == nil || !strings.Contains(err.Error(), l.ServerToken()) {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestRotateHoldsAtOnceAndAfterARestart(t *testing.T) {
	l, ca := testLayout(t), bundle(newCA(t, "ca", nil))
	s, err := Open(l, ca, Given{Server: parsed(t, "old"), Agent: parsed(t, "agents")})
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.Rotate(parsed(t, "new"))
	if err != nil || full.Reveal() != "K10"+sum(ca)+"::server:new" {
		t.Fatalf("%s, %v", full.Reveal(), err)
	}
	again, err := Open(l, ca, Given{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, again} {
		if s.Check("server", "old") != Nobody || s.Check("server", "new") != Server || s.Check("node", "agents") != Node {
			t.Error("not the new one alone")
		}
	}
	if _, err := s.Rotate(parsed(t, "abc123.0123456789abcdef")); err == nil {
		t.Error("a bootstrap token was taken")
	}
}

func TestANewCAIsInTheTokenAfterTheNextStart(t *testing.T) {
	l := testLayout(t)
	if _, err := Open(l, bundle(newCA(t, "old", nil)), Given{Server: parsed(t, "mine")}); err != nil {
		t.Fatal(err)
	}
	ca := bundle(newCA(t, "new", nil))
	if _, err := Open(l, ca, Given{}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, l.ServerToken()); got != "K10"+sum(ca)+"::server:mine" {
		t.Errorf("the token is %s", got)
	}
}

func TestNodePasswordIsMadeOnceAndKept(t *testing.T) {
	l := testLayout(t)
	first, err := NodePassword(l)
	if err != nil || len(first) < 32 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := NodePassword(l); err != nil || again != first {
		t.Errorf("another one: %v", err)
	}
	if info, err := os.Stat(l.NodePassword()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(l.NodePassword(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodePassword(l); err == nil || !strings.Contains(err.Error(), "skiff kubectl delete node") {
		t.Errorf("an empty file: %v", err)
	}
}
