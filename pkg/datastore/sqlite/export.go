package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"iter"
	"strings"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// Export is a database that is read to be taken elsewhere, while nothing else
// uses it.
type Export struct {
	path string
	db   *database
}

// errEnough ends a query whose reader has had enough.
var errEnough = errors.New("the reader has had enough")

// OpenExport opens a database that a server has left, however it ended.
func OpenExport(path string, log *logrus.Entry) (*Export, error) {
	db, err := open(path, log)
	if err != nil {
		return nil, err
	}
	return &Export{path, db}, nil
}

// Revision is the newest that the database has given.
func (e *Export) Revision() int64 { return e.db.current }

// Keys are all that are there, each at the revision of its last change, with
// the time to live that it was given as its lease.
func (e *Export) Keys() iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		err := e.db.writer.query(context.Background(), listSQL, func(row []driver.Value) error {
			kv := &mvccpb.KeyValue{
				ModRevision: integer(row[0]), Key: []byte(text(row[1])), CreateRevision: integer(row[3]),
				Lease: integer(row[4]), Value: blob(row[5]), Version: 1,
			}
			name := string(kv.Key)
			if name == kineapi.CompactKeyStored || strings.HasPrefix(name, gapPrefix) {
				return nil // no client's
			}
			if integer(row[2]) != 0 {
				kv.CreateRevision = kv.ModRevision
			}
			if !yield(kv, nil) {
				return errEnough
			}
			return nil
		}, "", noEnd, e.db.current, int64(-1))
		if err != nil && !errors.Is(err, errEnough) {
			yield(nil, explain(e.path, err))
		}
	}
}

// Close closes the database, whose file then has everything.
func (e *Export) Close() error { return explain(e.path, e.db.close()) }
