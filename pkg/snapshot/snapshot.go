// Package snapshot keeps copies of a cluster's state: it writes and reads them
// as files, keeps them in a directory and on S3, makes them on a schedule, and
// shows them as objects in the cluster. A snapshot holds the keys of the
// datastore as they were at one revision, whichever datastore that is, and the
// cluster's own keys, sealed with the server token; any datastore of Skiff can
// be filled from it. docs/adr/0013-snapshots.md has the format and the reasons.
//
// The wiring of a server and the command line import it. It imports no
// datastore: it is given a client to read from.
package snapshot

import (
	"fmt"
	"time"
)

// Suffix ends the names of files with snapshots.
const Suffix = ".snapshot"

// Metadata says what a snapshot is of. It is kept in the file, and readable
// without a secret.
type Metadata struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Cluster is the hash of the server CA, by which join tokens are bound to
	// the cluster.
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Skiff and Kubernetes are versions.
	Skiff      string `json:"skiff"`
	Kubernetes string `json:"kubernetes"`
	Datastore  string `json:"datastore"`
	// Revision is the datastore's at which every key was read.
	Revision int64 `json:"revision"`
	Keys     int64 `json:"keys"`
	// Bytes is the size of keys and values.
	Bytes int64 `json:"bytes"`
	// Sealed are the cluster's CAs, keys and tokens, sealed with the server
	// token.
	Sealed []byte `json:"sealed,omitempty"`
}

// WithoutKeys is the metadata for people and other programs.
func (m Metadata) WithoutKeys() Metadata {
	m.Sealed = nil
	return m
}

// Place is where a snapshot is kept.
type Place string

// The places.
const (
	Local Place = "local"
	S3    Place = "s3"
)

// Info is one copy of a snapshot, as lists show it.
type Info struct {
	Name  string `json:"name"`
	Place Place  `json:"place"`
	// Location is the file's path, or the s3:// URL.
	Location string    `json:"location"`
	Size     int64     `json:"size"`
	Created  time.Time `json:"created"`
	Node     string    `json:"node,omitempty"`
	// Metadata is nil where the file could not be understood; Problem says why.
	Metadata *Metadata `json:"metadata,omitempty"`
	Problem  string    `json:"problem,omitempty"`
}

// Restore says what is to be restored.
type Restore struct {
	// Name is a snapshot's, or the path of its file.
	Name string
	// Into is the kind of datastore to fill; empty: what the settings say.
	Into   string
	Report func(Progress)
}

// Restored is what a restore has done.
type Restored struct {
	Snapshot Metadata `json:"snapshot"`
	File     string   `json:"file"`
	// Into is the kind of datastore that was filled.
	Into string `json:"into"`
	// Kept is where the state from before is; empty: there was none.
	Kept string `json:"kept,omitempty"`
}

// stamp is how a name says when the snapshot was made.
const stamp = "20060102-150405"

// NameOf is a snapshot's name: what the administrator calls those of its kind,
// the node that made it, and the time.
func NameOf(prefix, node string, at time.Time) string {
	return fmt.Sprintf("%s-%s-%s", prefix, node, at.UTC().Format(stamp))
}

// ofSeries says whether a name is NameOf(prefix, node, t), and gives t. Names
// that merely begin alike are of others: node "a-b" is not node "a".
func ofSeries(name, prefix, node string) (time.Time, bool) {
	head := prefix + "-" + node + "-"
	if len(name) != len(head)+len(stamp) || name[:len(head)] != head {
		return time.Time{}, false
	}
	at, err := time.Parse(stamp, name[len(head):])
	return at, err == nil
}
