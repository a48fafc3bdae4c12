package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	tests := []struct {
		name, text             string
		hash, user, id, secret string
		err                    error
	}{
		{name: "a server's, whole", text: "K10" + hash + "::server:pass", hash: hash, user: "server", secret: "pass"},
		{name: "an agent's, whole", text: "K10" + hash + "::node:pass", hash: hash, user: "node", secret: "pass"},
		{name: "a password with colons", text: "K10" + hash + "::node:a:b::c", hash: hash, user: "node", secret: "a:b::c"},
		{name: "a bootstrap token, whole", text: "K10" + hash + "::abc123.0123456789abcdef", hash: hash, id: "abc123", secret: "0123456789abcdef"},
		{name: "a password alone", text: "pass", secret: "pass"},
		{name: "a password that begins with K10", text: "K10years", secret: "K10years"},
		{name: "a bootstrap token alone", text: "abc123.0123456789abcdef", id: "abc123", secret: "0123456789abcdef"},
		{name: "nothing", text: "", err: errEmpty},
		{name: "a line break at its end", text: "pass\n", err: errCharacter},
		{name: "no ASCII", text: "pässword", err: errCharacter},
		{name: "more than anybody has", text: strings.Repeat("x", maxLength+1), err: errLong},
		{name: "half a hash", text: "K10" + hash[:20] + "::server:pass", err: errPinned},
		{name: "a hash alone", text: "K10" + hash, err: errPinned},
		{name: "a hash in capitals", text: "K10" + strings.ToUpper(hash) + "::server:pass", err: errPinned},
		{name: "no user", text: "K10" + hash + "::pass", err: errPinned},
		{name: "no password", text: "K10" + hash + "::server:", err: errPinned},
		{name: "another user", text: "K10" + hash + "::admin:pass", err: errUser},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.text)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got the error %v, want %v", err, tt.err)
			}
			if got.Hash() != tt.hash || got.User() != tt.user || got.ID() != tt.id || got.Secret() != tt.secret {
				t.Errorf("got %q %q %q %q", got.Hash(), got.User(), got.ID(), got.Secret())
			}
			if err == nil && got.Reveal() != tt.text {
				t.Errorf("%q became %q", tt.text, got.Reveal())
			}
		})
	}
}

func TestNoWayOfPrintingShowsTheSecret(t *testing.T) {
	const secret = "0123456789abcdef"
	for _, text := range []string{"K10" + hash + "::server:S" + secret, "K10" + hash + "::abc123." + secret, "S" + secret} {
		tok, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		type nested struct {
			Public  Token
			private Token
		}
		for _, v := range []any{tok, &tok, nested{tok, tok}, []Token{tok}, map[string]Token{"a": tok}} {
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
				if out := fmt.Sprintf(format, v); strings.Contains(strings.ReplaceAll(out, hash, ""), secret) {
					t.Errorf("%s of %T shows the secret: %s", format, v, out)
				}
			}
			if out, err := json.Marshal(v); err != nil || strings.Contains(string(out), secret) {
				t.Errorf("JSON of %T: %s, %v", v, out, err)
			}
		}
	}
}

func TestGeneratedTokensDifferAndParse(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		b, err := NewBootstrap()
		if err != nil {
			t.Fatal(err)
		}
		if p, err := Parse(b.Reveal()); err != nil || !p.Bootstrap() || p.Bearer() != b.Bearer() || seen[b.Bearer()] {
			t.Fatalf("%s: %v", b.Reveal(), err)
		}
		seen[b.Bearer()] = true
		password, err := Generate()
		if err != nil || len(password) != 32 || seen[password] {
			t.Fatalf("%q, %v", password, err)
		}
		seen[password] = true
	}
}

func TestCheckGroup(t *testing.T) {
	for name, good := range map[string]bool{
		JoinGroup: true, "system:bootstrappers:a": true,
		"system:bootstrappers:": false, "system:masters": false, "system:bootstrappers:A": false, "system:bootstrappers:a,b": false, "": false,
	} {
		if err := CheckGroup(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"K10" + hash + "::server:pass", "K10" + hash + "::abc123.0123456789abcdef", "pass", "K10::", "::", "K10" + hash + "::server:\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := Parse(text)
		if err != nil {
			if tok.Secret() != "" {
				t.Errorf("a refused token has a secret")
			}
			// Errors are constants, so they cannot show what was read.
			for _, known := range []error{errEmpty, errLong, errCharacter, errPinned, errUser} {
				if err == known {
					return
				}
			}
			t.Fatalf("an error that is made of the input: %v", err)
		}
		if tok.Secret() == "" {
			t.Error("a token without a secret")
		}
		if tok.Reveal() != text {
			t.Errorf("%q became %q", text, tok.Reveal())
		}
		if again, err := Parse(tok.Reveal()); err != nil || again.Reveal() != tok.Reveal() {
			t.Errorf("not the same again: %v", err)
		}
		if rest := strings.ReplaceAll(text, "(redacted)", ""); len(tok.Secret()) > 12 && rest == text && strings.Contains(strings.TrimPrefix(tok.String(), "K10"+tok.Hash()), tok.Secret()) {
			t.Errorf("%s shows the secret", tok)
		}
	})
}
