package protocol

import "time"

// PathEncryption answers GET with an EncryptionStatus and takes an
// EncryptionRequest by POST, which answers with the status after it began.
const PathEncryption = Prefix + "secrets-encryption"

// EncryptionRequest begins a change of how Secrets are encrypted.
type EncryptionRequest struct {
	// Action is enable, disable, rotate-keys or reencrypt.
	Action string `json:"action"`
}

// EncryptionStatus is how Secrets are kept in the datastore.
type EncryptionStatus struct {
	// Enabled says whether what is written is encrypted.
	Enabled bool `json:"enabled"`
	// Keys are those that there are, without what is secret.
	Keys []EncryptionKey `json:"keys"`
	// Operation is the change under way, if any, and Last the one before.
	Operation *EncryptionOperation `json:"operation,omitempty"`
	Last      *EncryptionOperation `json:"last,omitempty"`
	// Secrets counts all that there are, Current those that are stored in the
	// way that is written now.
	Secrets int `json:"secrets"`
	Current int `json:"current"`
	// Servers are those that have to agree.
	Servers []EncryptionServer `json:"servers"`
}

// EncryptionKey is a key without what is secret.
type EncryptionKey struct {
	Name     string    `json:"name"`
	Provider string    `json:"provider"`
	Made     time.Time `json:"made"`
	// Active is the key that writes.
	Active bool `json:"active"`
}

// EncryptionOperation is a change of the encryption.
type EncryptionOperation struct {
	Action string    `json:"action"`
	Step   string    `json:"step"`
	Since  time.Time `json:"since"`
	// Problem is what holds it up, for people.
	Problem string `json:"problem,omitempty"`
}

// EncryptionServer is a server and which keys it has loaded.
type EncryptionServer struct {
	Name string `json:"name"`
	// Hash is of its keys; those of all servers are the same between changes.
	Hash string `json:"hash"`
}
