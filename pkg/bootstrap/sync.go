package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Outcome is what Sync has done.
type Outcome int

// The outcomes.
const (
	Same  Outcome = iota // the disk and the datastore had the same
	Kept                 // what the disk had is in the datastore now
	Taken                // what the datastore had is on the disk now
)

// record is what the disk and the datastore had in common when they were last
// compared. It tells which of them has changed, and saves the price of opening
// what has not.
type record struct {
	Digest string `json:"digest"` // Data's
	Sealed string `json:"sealed"` // the sealed form's
	Token  string `json:"token"`  // that of the token with which it was sealed
}

// Sync makes the disk and the datastore hold the same: the one that has changed
// since the last time has precedence, and two that both have are an error that
// names the files. password is the server token's; with another one than last
// time, what the disk has is sealed again.
func Sync(ctx context.Context, l layout.Layout, kv KV, password string) (Outcome, error) {
	local, err := Gather(l)
	if err != nil {
		return Same, err
	}
	stored, err := Load(ctx, kv)
	if err != nil {
		return Same, err
	}
	if stored.Revision == 0 {
		return Kept, keep(ctx, l, kv, password, local, 0)
	}
	last, err := readRecord(l)
	if err != nil {
		return Same, err
	}
	unchanged := last.Sealed == hash(stored.Sealed)
	if unchanged && last.Digest == local.Digest() {
		if last.Token == hash([]byte(password)) {
			return Same, nil
		}
		return Kept, keep(ctx, l, kv, password, local, stored.Revision)
	}
	remote, err := Open(password, stored.Sealed)
	if err != nil {
		return Same, err
	}
	switch differing := remote.Differing(local); {
	case len(differing) == 0:
		return Same, Remember(l, password, local, stored.Sealed)
	case unchanged, last.Digest == remote.Digest():
		return Kept, keep(ctx, l, kv, password, local, stored.Revision)
	case last.Digest == local.Digest():
		if err := remote.Write(l); err != nil {
			return Same, err
		}
		return Taken, Remember(l, password, remote, stored.Sealed)
	default:
		return Same, fmt.Errorf("the cluster's keys in the datastore are not those in %s: %s differ, and nothing says which are right. To start with those of the datastore, move that directory away; to start a new cluster, move the datastore away",
			l.Server(), strings.Join(differing, ", "))
	}
}

func keep(ctx context.Context, l layout.Layout, kv KV, password string, d Data, revision int64) error {
	sealed, err := Seal(password, d)
	if err != nil {
		return err
	}
	if _, err := Save(ctx, kv, sealed, revision); err != nil {
		return err
	}
	return Remember(l, password, d, sealed)
}

// Remember notes that the disk has d and the datastore the same, sealed with
// password. Who changes both calls it; Sync does by itself.
func Remember(l layout.Layout, password string, d Data, sealed []byte) error {
	data, err := json.Marshal(record{Digest: d.Digest(), Sealed: hash(sealed), Token: hash([]byte(password))})
	if err != nil {
		return fmt.Errorf("remembering the state of the cluster's keys: %w", err)
	}
	_, err = atomicfile.WriteIfChanged(l.BootstrapRecord(), append(data, '\n'), 0o600)
	return err
}

func readRecord(l layout.Layout) (record, error) {
	data, err := os.ReadFile(l.BootstrapRecord())
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("reading the state of the cluster's keys: %w", err)
	}
	var r record
	if json.Unmarshal(data, &r) != nil {
		return record{}, nil // as if they had never been compared
	}
	return r, nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
