package snapshot

import (
	"errors"
	"fmt"
)

// A file is
//
//	magic
//	zstd stream of records: uvarint length, mvccpb.KeyValue
//	metadata, JSON
//	4 bytes, big endian: length of the metadata
//	SHA-256 of everything before
//	ending
//
// so that it is written in one pass, and one that was cut short is known by its
// last bytes.
const (
	family = "skiff-snapshot/" // what the magic of every version begins with
	magic  = family + "1\n"
	ending = "\nskiff-snapshot-ends\n"

	digestSize  = 32
	tailSize    = 4 + digestSize + len(ending)
	maxMetadata = 16 << 20
	// maxRecord is far above what any datastore takes as one value.
	maxRecord = 64 << 20
)

// Errors by which a file is refused; DamagedError carries one of them.
var (
	ErrForeign = errors.New("it is not a snapshot of Skiff")
	ErrNewer   = errors.New("it was made by a newer version of Skiff, which this one cannot read: restore it with that version")
	ErrCut     = errors.New("it has been cut short: its end is missing")
	ErrAltered = errors.New("it has been altered or damaged: its checksum does not match")
)

// DamagedError says which file is refused, and why.
type DamagedError struct {
	Path  string
	Cause error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the snapshot %s cannot be used: %v", e.Path, e.Cause)
}

func (e *DamagedError) Unwrap() error { return e.Cause }
