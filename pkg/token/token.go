// Package token knows the secrets that let machines into a cluster: what they
// look like, how one is bound to the cluster's CA, and where a server keeps its
// own. It talks to nobody; configuration, wiring, components and commands may
// import it.
//
// A token has one of these forms, the same as k3s':
//
//	K10<SHA-256 of the CA, hex>::<user>:<password>
//	K10<SHA-256 of the CA, hex>::<id>.<secret>
//	<password>
//	<id>.<secret>
//
// The first two are bound to a CA: who holds one notices a server that is not
// the cluster's before telling it anything. The last two are not.
package token

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// Users are who a token speaks for.
const (
	// UserServer may do all that joining is about.
	UserServer = "server"
	// UserNode may join as an agent.
	UserNode = "node"
)

const (
	prefix = "K10"
	// maxLength bounds what is looked at, in bytes.
	maxLength = 1024
)

var (
	bootstrapForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	pinnedForm    = regexp.MustCompile(`^K10([0-9a-f]{64})::(.*)$`)
	startsPinned  = regexp.MustCompile(`^K10([0-9a-fA-F]*$|.*::)`)
)

// Errors of Parse. None of them has any part of the token in it.
var (
	errEmpty     = errors.New("the token is empty")
	errLong      = fmt.Errorf("the token has more than %d characters", maxLength)
	errCharacter = errors.New("the token has a space, a line break or another character that is not printable ASCII; copy it whole and without quotes")
	errPinned    = errors.New("the token begins like K10<hash>::<user>:<password> but is not whole; copy the whole line of the server's file /var/lib/skiff/server/node-token")
	errUser      = fmt.Errorf("the token is for an unknown user; the users are %s and %s", UserServer, UserNode)
)

// Token is one parsed token. Printing it in any way shows no secret; Reveal
// does. The zero value lets nobody in.
type Token struct {
	hash, user, id string
	// A pointer, so that printing a struct that a token is in shows an
	// address: fmt does not call String on fields that are not exported.
	secret *string
}

// Parse reads a token in any of its forms.
func Parse(text string) (Token, error) {
	switch {
	case text == "":
		return Token{}, errEmpty
	case len(text) > maxLength:
		return Token{}, errLong
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return Token{}, errCharacter
	}
	m := pinnedForm.FindStringSubmatch(text)
	if m == nil {
		if startsPinned.MatchString(text) {
			return Token{}, errPinned
		}
		return short(text), nil
	}
	t := short(m[2])
	if !t.Bootstrap() {
		user, password, ok := strings.Cut(m[2], ":")
		switch {
		case !ok || password == "":
			return Token{}, errPinned
		case user != UserServer && user != UserNode:
			return Token{}, errUser
		}
		t = Token{user: user, secret: &password}
	}
	t.hash = m[1]
	return t, nil
}

func short(text string) Token {
	if m := bootstrapForm.FindStringSubmatch(text); m != nil {
		return Token{id: m[1], secret: &m[2]}
	}
	return Token{secret: &text}
}

// Password makes a token of a user's password, bound to a CA by its Hash.
func Password(hash, user, password string) Token {
	return Token{hash: hash, user: user, secret: &password}
}

// NewBootstrap makes a bootstrap token of random letters and digits, bound to
// nothing.
func NewBootstrap() (Token, error) {
	id, err := random(6)
	if err != nil {
		return Token{}, err
	}
	secret, err := random(16)
	return Token{id: id, secret: &secret}, err
}

// Pinned is the token bound to the CA with this Hash.
func (t Token) Pinned(hash string) Token {
	t.hash = hash
	return t
}

// Hash is the hash of the CA that the token is bound to; empty: none.
func (t Token) Hash() string { return t.hash }

// User is whom a password is for; empty for a short password, which says
// nothing of it, and for bootstrap tokens.
func (t Token) User() string { return t.user }

// Bootstrap says whether it is a Kubernetes bootstrap token.
func (t Token) Bootstrap() bool { return t.id != "" }

// ID is a bootstrap token's public part.
func (t Token) ID() string { return t.id }

// Secret is the password, or the secret part of a bootstrap token.
func (t Token) Secret() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret
}

// Bearer is a bootstrap token as Kubernetes takes it: id.secret.
func (t Token) Bearer() string { return t.id + "." + t.Secret() }

// Reveal is the token in full.
func (t Token) Reveal() string { return t.text(t.Secret()) }

// String is the token without its secret.
func (t Token) String() string { return t.text("(redacted)") }

// GoString is String.
func (t Token) GoString() string { return t.String() }

func (t Token) text(secret string) string {
	credential := secret
	switch {
	case t.id != "":
		credential = t.id + "." + secret
	case t.user != "":
		credential = t.user + ":" + secret
	}
	if t.hash == "" {
		return credential
	}
	return prefix + t.hash + "::" + credential
}

// Generate is a new password: 128 random bits in hex.
func Generate() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("making a password: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// random is a text of n letters and digits.
func random(n int) (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		at, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("making a token: %w", err)
		}
		b[i] = alphabet[at.Int64()]
	}
	return string(b), nil
}
