package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// secretMode is that of every file with a token in it.
const secretMode = 0o600

// Given is what the administrator says the tokens are; the zero Token: nothing.
type Given struct {
	Server Token
	Agent  Token
}

// Role is what a credential lets its holder do; a higher one includes the
// lower ones.
type Role int

// The roles.
const (
	Nobody Role = iota
	Node        // join as an agent
	Server      // change tokens, too
)

// Store is a server's own tokens. It is safe for concurrent use.
type Store struct {
	layout layout.Layout
	hash   string
	given  bool // the server token
	agents bool // a token of agents' own was given

	mu     sync.RWMutex
	server string
	agent  string // empty: server's
}

// Open reads a server's tokens, or makes them at its first start, and writes
// their files: server/token with the link node-token to it, and
// server/agent-token, a link to token while there is none of its own. caBundle
// is the server CA.
//
// A server token that differs from the one on disk is an error, because other
// machines hold that one; an agent token is replaced.
func Open(l layout.Layout, caBundle []byte, given Given) (*Store, error) {
	hash, err := HashCA(caBundle)
	if err != nil {
		return nil, err
	}
	s := &Store{layout: l, hash: hash, given: given.Server.Secret() != "", agents: given.Agent.Secret() != ""}
	for _, t := range []Token{given.Server, given.Agent} {
		if t.hash != "" { // it may be of a CA that was replaced
			if _, err := Pin(caBundle, t.hash); err != nil {
				return nil, err
			}
			t.hash = s.hash
		}
		if err := s.usable(t); err != nil {
			return nil, err
		}
	}
	have, err := read(l.ServerToken())
	if err != nil {
		return nil, err
	}
	switch s.server = have.Secret(); {
	case s.server == "":
		if s.server = given.Server.Secret(); s.server == "" {
			if s.server, err = Generate(); err != nil {
				return nil, err
			}
		}
	case given.Server.Secret() != "" && !equal(given.Server.Secret(), s.server):
		return nil, fmt.Errorf("the token that was given is not the one of this cluster, which is in %s: leave --token out, or change the cluster's with skiff token rotate", l.ServerToken())
	}
	if s.agent = given.Agent.Secret(); s.agent == "" {
		if s.agent, err = ownAgentToken(l); err != nil {
			return nil, err
		}
	}
	return s, s.write()
}

// usable refuses what cannot be a server's own token.
func (s *Store) usable(t Token) error {
	switch {
	case t.Bootstrap():
		return errors.New("a server's own token cannot have the form of a bootstrap token (6 characters, a dot, 16 characters): choose another password")
	case t.hash != "" && t.hash != s.hash:
		return &MismatchError{Want: t.hash, Got: s.hash}
	}
	return nil
}

// read is the token in a file; the zero Token when there is no file.
func read(path string) (Token, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Token{}, nil
	}
	if err != nil {
		return Token{}, fmt.Errorf("reading the token: %w", err)
	}
	t, err := Parse(strings.TrimSpace(string(data)))
	if err == nil && t.Bootstrap() {
		err = errors.New("it is a bootstrap token")
	}
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w. Put it back from a backup, or remove it to have a new token made, which agents that join from then on need", path, err)
	}
	return t, nil
}

// ownAgentToken is the agent token on disk, if it is not the server's.
func ownAgentToken(l layout.Layout) (string, error) {
	info, err := os.Lstat(l.AgentToken())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", nil
	}
	t, err := read(l.AgentToken())
	return t.Secret(), err
}

func (s *Store) write() error {
	if err := writeToken(s.layout.ServerToken(), Password(s.hash, UserServer, s.server)); err != nil {
		return err
	}
	if err := link(s.layout.NodeToken()); err != nil {
		return err
	}
	if s.agent == "" {
		return link(s.layout.AgentToken())
	}
	return writeToken(s.layout.AgentToken(), Password(s.hash, UserNode, s.agent))
}

func writeToken(path string, t Token) error {
	_, err := atomicfile.WriteIfChanged(path, []byte(t.Reveal()+"\n"), secretMode)
	return err
}

// link makes path lead to the file token beside it.
func link(path string) error {
	const target = "token"
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	return nil
}

// SetCA binds the tokens to another server CA, in their files too.
func (s *Store) SetCA(caBundle []byte) error {
	hash, err := HashCA(caBundle)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hash = hash
	return s.write()
}

// Given says whether the administrator named the server token, which the next
// start holds against the one on disk.
func (s *Store) Given() bool { return s.given }

// GivenAgent is Given for the agents' token, which the next start puts in the
// place of the one on disk.
func (s *Store) GivenAgent() bool { return s.agents }

// Password is that of the server token, which seals what servers share.
func (s *Store) Password() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.server
}

// Check says what a user may do who names this password. How long it takes
// does not depend on the password.
func (s *Store) Check(user, password string) Role {
	s.mu.RLock()
	server, agent := s.server, s.agent
	s.mu.RUnlock()
	isServer := equal(password, server)
	isAgent := equal(password, agent) && agent != ""
	switch {
	case user == UserServer && isServer:
		return Server
	case user == UserNode && (isAgent || isServer):
		return Node
	}
	return Nobody
}

// equal compares hashes, so that not even the length shows.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// RotateAgent is Rotate for the token with which agents alone join.
func (s *Store) RotateAgent(next Token) (Token, error) {
	if err := s.usable(next); err != nil {
		return Token{}, err
	}
	full := Password(s.hash, UserNode, next.Secret())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeToken(s.layout.AgentToken(), full); err != nil {
		return Token{}, err
	}
	s.agent = next.Secret()
	return full, nil
}

// Reload takes over the agent token on disk, which another server has changed.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	agent, err := ownAgentToken(s.layout)
	if err == nil {
		s.agent = agent
	}
	return err
}

// Rotate replaces the server token, on disk first, and gives the new one in
// full. It holds from then on; a token of agents' own stays.
func (s *Store) Rotate(next Token) (Token, error) {
	if err := s.usable(next); err != nil {
		return Token{}, err
	}
	full := Password(s.hash, UserServer, next.Secret())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeToken(s.layout.ServerToken(), full); err != nil {
		return Token{}, err
	}
	s.server = next.Secret()
	return full, nil
}
