package sqlite

import (
	"context"
	"fmt"
)

// relax lets commits of a database that this start has made go unflushed until
// settle: the API server writes its some three hundred roles and bindings one
// after the other before it is ready, and would wait for the disk as often.
// Nothing is promised to anyone before that, and write-ahead logging keeps the
// file whole: after a power cut the roles that are missing are made again.
func (b *backend) relax(ctx context.Context) error {
	return b.writer.do(ctx, func(db *conn) error { return db.exec("PRAGMA synchronous = NORMAL") })
}

// settle flushes everything that was written, and every commit from now on.
func (b *backend) settle(ctx context.Context) error {
	return b.writer.do(ctx, func(db *conn) error {
		if err := db.exec("PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		// A checkpoint flushes the log before it copies from it.
		return db.exec("PRAGMA wal_checkpoint(PASSIVE)")
	})
}

// Settle says that the cluster's first objects are there: from its return on,
// every acknowledged write is on the disk, those before included. It is to be
// called once, after Run has called ready; on a database that was there before
// it has nothing to do.
func (d *Datastore) Settle(ctx context.Context) error {
	b := d.relaxed.Swap(nil)
	if b == nil {
		return nil
	}
	if err := b.settle(ctx); err != nil {
		return fmt.Errorf("flushing the datastore after its first start: %w", err)
	}
	return nil
}
