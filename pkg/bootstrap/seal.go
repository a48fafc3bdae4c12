package bootstrap

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// magic begins everything sealed; its number is that of the format.
const magic = "skiff-sealed-1\n"

// What making a key costs whoever guesses tokens, and us once per change.
// RFC 9106 proposes 64 MiB for small machines; half of it and three passes are
// what a machine with 512 MiB can give beside an API server.
const (
	kdfName   = "argon2id"
	kdfPasses = 3
	kdfKiB    = 32 << 10
	kdfLanes  = 1
)

// Bounds for what a header may ask for, so that a forged one cannot take all
// memory.
const (
	maxPasses = 64
	maxKiB    = 1 << 20
	maxLanes  = 16
	maxHeader = 4 << 10
)

// ErrToken is the error of Open with another token than that of Seal, or when
// what was sealed has been changed.
var ErrToken = errors.New("the token does not open the cluster's keys kept in the datastore: give the server token of that cluster with --token")

var errNotSealed = errors.New("the cluster's keys in the datastore do not begin like anything that Skiff has sealed: they are damaged, or are of a newer version of Skiff")

// header says how to make the key. It is authenticated with the content.
type header struct {
	KDF    string `json:"kdf"`
	Passes uint32 `json:"passes"`
	KiB    uint32 `json:"kib"`
	Lanes  uint8  `json:"lanes"`
	Salt   []byte `json:"salt"`
	Cipher string `json:"cipher"`
	Nonce  []byte `json:"nonce"`
}

const cipherName = "xchacha20poly1305"

// Seal encrypts d for whoever knows the password of the server token.
func Seal(password string, d Data) ([]byte, error) {
	plain, err := d.encode()
	if err != nil {
		return nil, err
	}
	return seal(password, plain)
}

// Open is the reverse of Seal.
func Open(password string, sealed []byte) (Data, error) {
	plain, err := unseal(password, sealed)
	if err != nil {
		return Data{}, err
	}
	return decode(plain)
}

// Reseal makes what is sealed with one token open with another.
func Reseal(old, next string, sealed []byte) ([]byte, error) {
	plain, err := unseal(old, sealed)
	if err != nil {
		return nil, err
	}
	return seal(next, plain)
}

func seal(password string, plain []byte) ([]byte, error) {
	if password == "" {
		return nil, errors.New("sealing the cluster's keys: there is no server token")
	}
	h := header{
		KDF: kdfName, Passes: kdfPasses, KiB: kdfKiB, Lanes: kdfLanes, Salt: make([]byte, 16),
		Cipher: cipherName, Nonce: make([]byte, chacha20poly1305.NonceSizeX),
	}
	for _, b := range [][]byte{h.Salt, h.Nonce} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("sealing the cluster's keys: %w", err)
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("sealing the cluster's keys: %w", err)
	}
	aead, err := h.key(password)
	if err != nil {
		return nil, err
	}
	out := append(append([]byte(magic), text...), '\n')
	return aead.Seal(out, h.Nonce, plain, bytes.Clone(out)), nil
}

func unseal(password string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(magic))
	if !ok {
		return nil, errNotSealed
	}
	end := bytes.IndexByte(rest[:min(len(rest), maxHeader)], '\n')
	if end < 0 {
		return nil, errNotSealed
	}
	var h header
	if err := json.Unmarshal(rest[:end], &h); err != nil || !h.fit() {
		return nil, errNotSealed
	}
	aead, err := h.key(password)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, h.Nonce, rest[end+1:], sealed[:len(magic)+end+1])
	if err != nil {
		return nil, ErrToken
	}
	return plain, nil
}

func (h header) fit() bool {
	return h.KDF == kdfName && h.Cipher == cipherName && len(h.Salt) >= 16 && len(h.Nonce) == chacha20poly1305.NonceSizeX &&
		0 < h.Passes && h.Passes <= maxPasses && 0 < h.Lanes && h.Lanes <= maxLanes && 8*uint32(h.Lanes) <= h.KiB && h.KiB <= maxKiB
}

func (h header) key(password string) (cipher.AEAD, error) {
	key := argon2.IDKey([]byte(password), h.Salt, h.Passes, h.KiB, h.Lanes, chacha20poly1305.KeySize)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("preparing to seal the cluster's keys: %w", err)
	}
	return aead, nil
}
