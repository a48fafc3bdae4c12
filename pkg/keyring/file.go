package keyring

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

const secretMode = 0o600

// Open reads the ring of a server. Where there is none, a new cluster gets one
// with a key of the provider, or without one when encrypted is false; a cluster
// that was there before stays as it is. The API server's file is made anew.
func Open(l layout.Layout, fresh, encrypt bool, provider string, now time.Time) (Ring, error) {
	r, err := Read(l)
	switch {
	case err == nil:
		return r, writeConfig(l, r)
	case !errors.Is(err, fs.ErrNotExist):
		return Ring{}, err
	}
	if fresh && encrypt {
		if r, err = New(provider, now); err != nil {
			return Ring{}, err
		}
	}
	return r, Save(l, r)
}

// Read reads the ring; the error is fs.ErrNotExist when there is none.
func Read(l layout.Layout) (Ring, error) {
	data, err := os.ReadFile(l.EncryptionState())
	if err != nil {
		return Ring{}, fmt.Errorf("reading the keys of Secrets: %w", err)
	}
	r, err := Parse(data)
	if err != nil {
		return Ring{}, fmt.Errorf("the keys of Secrets in %s cannot be used: %w. Put the file back from a backup: without it encrypted Secrets cannot be read", l.EncryptionState(), err)
	}
	return r, nil
}

// Parse reads what Encode wrote, and checks it.
func Parse(data []byte) (r Ring, err error) {
	if err := json.Unmarshal(data, &r); err != nil {
		return Ring{}, errors.New("the file is not whole, or not JSON") // the cause could quote a key
	}
	for _, k := range r.Keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		switch {
		case k.Provider != Secretbox && k.Provider != AESCBC:
			return Ring{}, fmt.Errorf("the key %q is for %q, which is neither %s nor %s", k.Name, k.Provider, Secretbox, AESCBC)
		case err != nil || len(secret) != keyBytes:
			return Ring{}, fmt.Errorf("the key %q has not %d bytes", k.Name, keyBytes)
		case k.Name == "" || strings.ContainsAny(k.Name, ":\n"):
			return Ring{}, fmt.Errorf("a key cannot be called %q", k.Name)
		}
	}
	if _, ok := r.Key(r.Write); r.Write != "" && !ok {
		return Ring{}, fmt.Errorf("the key %q, which is to be written with, is missing", r.Write)
	}
	return r, nil
}

// Encode is the ring as its file has it.
func (r Ring) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the keys of Secrets: %w", err)
	}
	return append(data, '\n'), nil
}

// Save writes the ring, and then the API server's file.
func Save(l layout.Layout, r Ring) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.EncryptionState()), 0o700); err != nil {
		return fmt.Errorf("making the directory for the keys of Secrets: %w", err)
	}
	if err := atomicfile.Write(l.EncryptionState(), data, secretMode); err != nil {
		return err
	}
	return writeConfig(l, r)
}

func writeConfig(l layout.Layout, r Ring) error {
	data, err := r.Config()
	if err != nil {
		return err
	}
	_, err = atomicfile.WriteIfChanged(l.EncryptionConfig(), data, secretMode)
	return err
}

// The parts of upstream's EncryptionConfiguration that are used here.
type (
	configuration struct {
		Kind       string     `json:"kind"`
		APIVersion string     `json:"apiVersion"`
		Resources  []resource `json:"resources"`
	}
	resource struct {
		Resources []string              `json:"resources"`
		Providers []map[string]provider `json:"providers"`
	}
	provider struct {
		Keys []providerKey `json:"keys,omitempty"`
	}
	providerKey struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
	}
)

// Config is the ring in upstream's format: the first provider writes, all read.
func (r Ring) Config() ([]byte, error) {
	plain := map[string]provider{"identity": {}}
	var providers []map[string]provider
	if !r.Enabled() {
		providers = append(providers, plain)
	}
	if k, ok := r.Key(r.Write); ok {
		providers = append(providers, k.provider())
	}
	for _, k := range r.Keys {
		if k.Name != r.Write {
			providers = append(providers, k.provider())
		}
	}
	if r.Enabled() {
		providers = append(providers, plain)
	}
	data, err := json.MarshalIndent(configuration{
		Kind: "EncryptionConfiguration", APIVersion: "apiserver.config.k8s.io/v1",
		Resources: []resource{{Resources: []string{"secrets"}, Providers: providers}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the API server's encryption configuration: %w", err)
	}
	return append(data, '\n'), nil
}

func (k Key) provider() map[string]provider {
	return map[string]provider{k.Provider: {Keys: []providerKey{{Name: k.Name, Secret: k.Secret}}}}
}

// Hash tells rings apart that an API server would treat differently.
func (r Ring) Hash() (string, error) {
	data, err := r.Config()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
