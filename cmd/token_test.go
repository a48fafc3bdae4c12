package cmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/skiff-k8s/skiff/pkg/admin"
	"github.com/skiff-k8s/skiff/pkg/token"
)

func testTokens(now time.Time) []admin.BootstrapToken {
	at := func(d time.Duration) *time.Time { t := now.Add(d); return &t }
	usual := func(id, description string, expires *time.Time) admin.BootstrapToken {
		return admin.BootstrapToken{ID: id, Description: description, Expires: expires, Usages: token.Usages(), Groups: []string{token.JoinGroup}}
	}
	return []admin.BootstrapToken{
		usual("aaaaaa", "", at(-time.Minute)),
		usual("bbbbbb", "for the new rack", at(42*time.Second)),
		usual("cccccc", strings.Repeat("a long story ", 12), at(23*time.Hour+59*time.Minute)),
		{ID: "dddddd", Expires: at(30 * 24 * time.Hour), Usages: []string{"signing"}, Groups: []string{}},
		{ID: "eeeeee", Usages: token.Usages(), Groups: []string{"system:bootstrappers:kubeadm:default-node-token"}},
	}
}

func TestTokenTableFitsATerminal(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	table := tokenTable(testTokens(now), now)
	for line := range strings.Lines(table) {
		if len(line) > width+1 {
			t.Errorf("wider than %d columns: %s", width, line)
		}
	}
	golden(t, filepath.Join("testdata", "token-list.txt"), table)
	if got := tokenTable(nil, now); !strings.Contains(got, "skiff token create") {
		t.Errorf("without tokens: %q", got)
	}
}

func TestTokenListIsTheSameInJSONAndYAML(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	for _, tokens := range [][]admin.BootstrapToken{testTokens(now), {}} {
		var j, y strings.Builder
		if err := printAs(&j, "json", tokens, nil); err != nil {
			t.Fatal(err)
		}
		if err := printAs(&y, "yaml", tokens, nil); err != nil {
			t.Fatal(err)
		}
		var list []admin.BootstrapToken
		if err := json.Unmarshal([]byte(j.String()), &list); err != nil || len(list) != len(tokens) {
			t.Errorf("%s: %v", j.String(), err)
		}
		again, err := yaml.YAMLToJSON([]byte(y.String()))
		if err != nil {
			t.Fatal(err)
		}
		if fromYAML := []admin.BootstrapToken(nil); json.Unmarshal(again, &fromYAML) != nil || len(fromYAML) != len(tokens) {
			t.Errorf("%s", y.String())
		}
	}
}

func TestTimeLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "expired", 0: "expired", 59 * time.Second: "59s", 90 * time.Minute: "1h30m", 47 * time.Hour: "47h0m", 49 * time.Hour: "2d", 5 * time.Minute: "5m",
	} {
		if got := timeLeft(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

func TestGeneratedTokensAreTokens(t *testing.T) {
	r := run(t, "skiff", "token", "generate")
	if tok, err := token.Parse(strings.TrimSpace(r.stdout)); err != nil || !tok.Bootstrap() || tok.Hash() != "" || r.code != 0 || r.stderr != "" {
		t.Errorf("got %+v, %v", r, err)
	}
	if again := run(t, "skiff", "token", "generate"); again.stdout == r.stdout {
		t.Error("the same one twice")
	}
}

func TestTokenCommandsExplainMistakes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "kubeconfig")
	broken := filepath.Join(t.TempDir(), "broken")
	writeFile(t, broken, "apiVersion: v1\nkind: [Config\n# secret")
	const secret = "0123456789abcdef"
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a command that is none":             {[]string{"lst"}, 2, `there is no command "skiff token lst"; did you mean "skiff token list"?`},
		"a negative time":                    {[]string{"create", "--ttl", "-1h"}, 2, "--ttl -1h0m0s is negative"},
		"a time that is none":                {[]string{"create", "--ttl", "soon"}, 2, "invalid value"},
		"a usage that is none":               {[]string{"create", "--usages", "signing,joining"}, 2, `--usages: "joining" is not known`},
		"a group that is none":               {[]string{"create", "--groups", "system:masters"}, 2, `--groups: "system:masters" cannot be`},
		"groups for a token that only signs": {[]string{"create", "--usages", "signing"}, 2, "--groups is for tokens that authenticate"},
		"half a token to make":               {[]string{"create", "abc123." + secret[:9]}, 2, "one token is wanted"},
		"two tokens to make":                 {[]string{"create", "abc123." + secret, "abc124." + secret}, 2, "one token is wanted"},
		"nothing to delete":                  {[]string{"delete"}, 2, "name the tokens to delete"},
		"something else to delete":           {[]string{"delete", "ABC"}, 2, "a token's id has 6 small letters"},
		"a list in another format":           {[]string{"list", "-o", "xml"}, 2, "-o xml is not a format"},
		"no kubeconfig":                      {[]string{"list", "--kubeconfig", missing}, 1, "there is no kubeconfig " + missing},
		"a kubeconfig that is none":          {[]string{"list", "--kubeconfig", broken}, 1, broken + " is no kubeconfig"},
		"an old token that is short":         {[]string{"rotate", "--token", secret}, 1, "a whole server token is needed"},
		"an old token for agents":            {[]string{"rotate", "--token", "K10" + strings.Repeat("ab", 32) + "::node:" + secret}, 1, "a whole server token is needed"},
		"two old tokens":                     {[]string{"rotate", "--token", secret, "--token-file", missing}, 1, "keep one of them"},
		"two new tokens":                     {[]string{"rotate", "--new-token", secret, "--new-token-file", missing}, 1, "keep one of them"},
		"a new token with a space":           {[]string{"rotate", "--new-token", secret + " x"}, 1, "the new token: the token has a space"},
		"a server without a token":           {[]string{"rotate", "--server", "https://127.0.0.1:1"}, 2, "--server is for --token"},
		"a server that is none":              {[]string{"rotate", "--server", "127.0.0.1", "--token", "K10" + strings.Repeat("ab", 32) + "::server:" + secret}, 1, "is not the URL of a server"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, append([]string{"skiff", "token"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
				t.Errorf("got code %d and %q, want %d and %q", r.code, r.stderr, c.code, c.want)
			}
			if strings.Contains(r.stderr, secret) {
				t.Errorf("the secret is in %q", r.stderr)
			}
		})
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
