// Package keyring keeps the keys with which Secrets are encrypted in the
// datastore: which there are, which one encrypts what is written, and how far a
// change of them has got. It knows files and no cluster; pkg/encryption carries
// changes out, and the wiring opens the ring before anything runs.
//
// The ring is one file, replaced whole, so that a change that was cut short is
// found as it was and goes on. The API server reads a second file, in upstream's
// format, which is made from the first.
package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Providers are the ways to encrypt, by upstream's names.
const (
	Secretbox = "secretbox"
	AESCBC    = "aescbc"
)

// keyBytes is the length of a key for both providers.
const keyBytes = 32

// Key is one key. Its name is in every value that it encrypted.
type Key struct {
	Name     string    `json:"name"`
	Provider string    `json:"provider"`
	Secret   string    `json:"secret"` // base64
	Made     time.Time `json:"made"`
}

// Prefix is what values begin with that the key encrypted.
func (k Key) Prefix() string { return "k8s:enc:" + k.Provider + ":v1:" + k.Name + ":" }

// Kind is a change that an administrator asks for.
type Kind string

// The changes.
const (
	Enable    Kind = "enable"
	Disable   Kind = "disable"
	Rotate    Kind = "rotate-keys"
	Reencrypt Kind = "reencrypt"
)

// Step is how far a change is.
type Step string

// The steps, in their order. Each begins when every server has loaded the ring
// of the one before.
const (
	// Prepare: the new key can be read with, and nothing is written with it.
	Prepare Step = "prepare"
	// Rewrite: everything is being written anew as it is to be.
	Rewrite Step = "rewrite"
	// Finish: keys that nothing needs any more are gone.
	Finish Step = "finish"
)

// Operation is a change under way.
type Operation struct {
	Kind  Kind      `json:"kind"`
	Step  Step      `json:"step"`
	Since time.Time `json:"since"`
	// Server is the name of the one that carries it out.
	Server string `json:"server,omitempty"`
}

// Ring is the keys of a cluster. The zero Ring encrypts nothing.
type Ring struct {
	Keys []Key `json:"keys"`
	// Write is the name of the key for what is written; "": none, plain text.
	Write string `json:"write"`
	// Operation is under way; nil: none.
	Operation *Operation `json:"operation,omitempty"`
	// Last is the last one that was finished.
	Last *Operation `json:"last,omitempty"`
}

// New is the ring of a new cluster, which encrypts from the first Secret on.
func New(provider string, now time.Time) (Ring, error) {
	var r Ring
	key, err := r.newKey(provider, now)
	if err != nil {
		return Ring{}, err
	}
	return Ring{Keys: []Key{key}, Write: key.Name}, nil
}

func (r Ring) newKey(provider string, now time.Time) (Key, error) {
	secret := make([]byte, keyBytes)
	if _, err := rand.Read(secret); err != nil {
		return Key{}, fmt.Errorf("making a key: %w", err)
	}
	highest := 0
	for _, k := range r.Keys {
		if n, err := strconv.Atoi(k.Name[strings.LastIndexByte(k.Name, '-')+1:]); err == nil {
			highest = max(highest, n)
		}
	}
	// The day makes names differ that rings of other times or backups have.
	name := fmt.Sprintf("%s-%s-%d", provider, now.UTC().Format("20060102"), highest+1)
	return Key{Name: name, Provider: provider, Secret: base64.StdEncoding.EncodeToString(secret), Made: now.UTC().Truncate(time.Second)}, nil
}

// Enabled says whether what is written is encrypted.
func (r Ring) Enabled() bool { return r.Write != "" }

// Key is a key by its name.
func (r Ring) Key(name string) (Key, bool) {
	at := slices.IndexFunc(r.Keys, func(k Key) bool { return k.Name == name })
	if at < 0 {
		return Key{}, false
	}
	return r.Keys[at], true
}

// Prefix is what values that are as they are to be begin with; "" for plain
// text, which begins with nothing of the kind.
func (r Ring) Prefix() string {
	k, _ := r.Key(r.Write)
	if k.Name == "" {
		return ""
	}
	return k.Prefix()
}

// Written says whether a value of the datastore is as what is written now.
func (r Ring) Written(value []byte) bool {
	if prefix := r.Prefix(); prefix != "" {
		return strings.HasPrefix(string(value[:min(len(value), len(prefix))]), prefix)
	}
	return !strings.HasPrefix(string(value[:min(len(value), len(encrypted))]), encrypted)
}

// encrypted is what all encrypted values begin with.
const encrypted = "k8s:enc:"

// Errors of Begin, which say what to do.
var (
	ErrEnabled  = errors.New("Secrets are encrypted already: a new key is made by skiff secrets-encrypt rotate-keys") //nolint:staticcheck // Secrets is a name
	ErrDisabled = errors.New("Secrets are not encrypted: begin with skiff secrets-encrypt enable")                    //nolint:staticcheck // as above
)

// BusyError says that a change is under way.
type BusyError struct{ Operation Operation }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s is under way since %s: skiff secrets-encrypt status shows how far it is", e.Operation.Kind, e.Operation.Since.Format(time.RFC3339))
}

// Begin is the ring at the first step of a change.
func (r Ring) Begin(kind Kind, provider string, now time.Time) (Ring, error) {
	if r.Operation != nil {
		return r, &BusyError{*r.Operation}
	}
	r.Keys = slices.Clone(r.Keys)
	op := &Operation{Kind: kind, Step: Rewrite, Since: now.UTC().Truncate(time.Second)}
	switch kind {
	case Enable:
		if r.Enabled() {
			return r, ErrEnabled
		}
		op.Step = Prepare
	case Rotate:
		if !r.Enabled() {
			return r, ErrDisabled
		}
		op.Step = Prepare
	case Disable:
		if !r.Enabled() {
			return r, errors.New("Secrets are not encrypted: there is nothing to disable") //nolint:staticcheck // Secrets is a name
		}
		r.Write = ""
	case Reencrypt:
	default:
		return r, fmt.Errorf("%q is no change of the encryption: there are %s, %s, %s and %s", kind, Enable, Disable, Rotate, Reencrypt)
	}
	if op.Step == Prepare {
		key, err := r.newKey(provider, now)
		if err != nil {
			return r, err
		}
		r.Keys = append(r.Keys, key)
	}
	r.Operation = op
	return r, nil
}

// Advance is the ring at the next step; the last one ends the change.
func (r Ring) Advance() Ring {
	op := *r.Operation
	switch op.Step {
	case Prepare:
		r.Write = r.Keys[len(r.Keys)-1].Name // the one that Begin made
		op.Step = Rewrite
	case Rewrite:
		r.Keys = slices.DeleteFunc(slices.Clone(r.Keys), func(k Key) bool { return k.Name != r.Write })
		op.Step = Finish
	default:
		r.Operation, r.Last = nil, &op
		return r
	}
	r.Operation = &op
	return r
}
