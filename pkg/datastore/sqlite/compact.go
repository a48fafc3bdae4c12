package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
)

// Bounds of one step of a compaction, in revisions. Steps grow and shrink so
// that each keeps the writer from its callers for about stepTime.
const (
	minStep   = 32
	firstStep = 128
	maxStep   = 4096
	stepTime  = 5 * time.Millisecond
)

// Freed pages are used again by later writes. Only when they are many is the
// file made smaller, a little at a time.
const (
	vacuumFrom = 16 << 20 // bytes free
	vacuumStep = 64       // pages
)

// Compact implements server.Backend: history before revision is removed, the
// newest state of every key as of revision stays. It returns when that is done.
func (b *backend) Compact(ctx context.Context, revision int64) (int64, error) {
	if revision > b.current.Load() {
		return 0, server.ErrFutureRev
	}
	b.compact.Lock()
	defer b.compact.Unlock()
	from := b.compacted.Load()
	if revision <= from {
		return 0, server.ErrCompacted
	}
	start, step, removed := time.Now(), int64(firstStep), int64(0)
	for at := from; at < revision; {
		to := min(at+step, revision)
		began := time.Now()
		n, err := b.compactStep(ctx, at, to)
		if err != nil {
			return 0, clientError(fmt.Errorf("compact to revision %d: %w", to, err))
		}
		removed += n
		at = to
		step = nextStep(step, time.Since(began))
	}
	b.log.WithFields(logrus.Fields{"from": from, "to": revision, "rows": removed, "took": time.Since(start).Round(time.Millisecond)}).
		Debug("Compacted")
	if err := b.shrink(ctx); err != nil {
		b.log.WithError(err).Warn("Can not make the database file smaller")
	}
	return b.current.Load(), nil
}

// nextStep is the number of revisions that would have taken stepTime, coming
// there gently from below and at once from above.
func nextStep(step int64, took time.Duration) int64 {
	fits := int64(float64(step) * float64(stepTime) / float64(max(took, time.Microsecond)))
	return max(minStep, min(fits, 2*step, maxStep))
}

// compactStep compacts the revisions (from, to] in one transaction.
func (b *backend) compactStep(ctx context.Context, from, to int64) (removed int64, err error) {
	// Readers look at this after they have read, so it moves before the rows go.
	b.compacted.Store(to)
	err = b.writer.do(ctx, func(db *conn) error {
		if err := db.exec(beginSQL); err != nil {
			return err
		}
		for _, query := range []string{compactReplacedSQL, compactDeletedSQL} {
			n, err := db.changed(query, from, to)
			if err != nil {
				return b.writer.abort(err)
			}
			removed += n
		}
		if err := db.exec(setCompactedSQL, to); err != nil {
			return b.writer.abort(err)
		}
		if err := db.exec(commitSQL); err != nil {
			return b.writer.abort(err)
		}
		return nil
	})
	if err != nil {
		b.compacted.Store(from)
		return 0, err
	}
	b.wal.wroteRows(removed)
	return removed, nil
}

// shrink gives free pages at the end of the file back to the file system.
func (b *backend) shrink(ctx context.Context) error {
	for {
		more := false
		err := b.writer.do(ctx, func(db *conn) error {
			size, err := db.queryInt(pageSizeSQL)
			if err != nil {
				return err
			}
			free, err := db.queryInt(freePagesSQL)
			if err != nil {
				return err
			}
			mode, err := db.queryInt(`PRAGMA auto_vacuum`)
			if err != nil || mode != incrementalVacuum || free*size < vacuumFrom {
				return err
			}
			if err := db.exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumStep)); err != nil {
				return err
			}
			now, err := db.queryInt(freePagesSQL)
			more = now < free
			return err
		})
		if err != nil || !more {
			return err
		}
		b.wal.wroteRows(vacuumStep)
	}
}

// compactEvery compacts to where things were one interval ago. It is for those
// who have switched the API server's own compaction off.
func (b *backend) compactEvery(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	target := b.current.Load()
	for {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
		if target > b.compacted.Load() {
			if _, err := b.Compact(b.ctx, target); err != nil && b.ctx.Err() == nil {
				b.log.WithError(err).Warn("Compaction failed, trying again later")
			}
		}
		target = b.current.Load()
	}
}
