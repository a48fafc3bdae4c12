package sqlite

import (
	"context"
	"database/sql/driver"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

const (
	// pageSize of new files. A small commit, such as a node's lease every 10 s,
	// costs a few whole pages: half of SQLite's default saves a quarter of what
	// a cluster at rest writes, and made no difference under load.
	pageSize = 2048
	// walPages is about how far the write-ahead log grows before it is moved
	// into the file: SQLite's own default, 4 MiB.
	walPages = 4 << 20 / pageSize
	// walLimit is when writers have to wait for that: a bound for the log.
	walLimit = 4 * walPages
	// quiesceTime bounds how long a full checkpoint waits for readers to end,
	// and others with it who want to begin to read.
	quiesceTime = 2 * time.Second
)

// checkpointer moves the write-ahead log into the database file on a connection
// and a goroutine of its own. SQLite would do it within some unlucky commit,
// whose caller then waits for two more flushes.
type checkpointer struct {
	b     *backend
	mu    sync.Mutex // one move at a time: guards db
	db    *conn
	wake  chan struct{}
	pages int64 // estimate of what was written since, owned by the writer
}

func newCheckpointer(b *backend, db *conn) *checkpointer {
	return &checkpointer{b: b, db: db, wake: make(chan struct{}, 1)}
}

// wrote counts what a commit added to the log; the writer calls it.
func (c *checkpointer) wrote(events []*server.Event) {
	pages := int64(2)
	for _, e := range events {
		pages += 1 + int64(len(e.KV.Value)/pageSize)
	}
	c.add(pages)
}

func (c *checkpointer) add(pages int64) {
	if c.pages += pages; c.pages < walPages {
		return
	}
	c.pages = 0
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wroteRows is wrote for maintenance; it may be called from anywhere.
func (c *checkpointer) wroteRows(rows int64) {
	if rows < walPages/4 {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *checkpointer) run() {
	for {
		select {
		case <-c.wake:
		case <-c.b.ctx.Done():
			return
		}
		log, err := c.passive()
		if err == nil && log > walLimit {
			err = c.full()
		}
		if err != nil && c.b.ctx.Err() == nil {
			if isFatal(err) {
				c.b.fail(err)
			}
			c.b.log.WithError(err).Warn("Can not move the write-ahead log into the database file")
		}
	}
}

// passive moves what it can while others read and write. It returns the number
// of pages that the log holds.
func (c *checkpointer) passive() (pages int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.db.query(context.Background(), `PRAGMA wal_checkpoint(PASSIVE)`, func(row []driver.Value) error {
		pages = integer(row[1])
		return nil
	})
	return pages, err
}

// full moves everything while nobody reads or writes, after which the next
// commit starts the log again at its beginning. Under a load that never pauses
// the log would grow for ever without it. Writers wait for the move of the last
// few pages only, not for readers to end.
func (c *checkpointer) full() error {
	ctx, cancel := context.WithTimeout(c.b.ctx, quiesceTime)
	defer cancel()
	var held []*conn
	defer func() {
		for _, r := range held {
			c.b.readers <- r
		}
	}()
	for range readers {
		select {
		case r := <-c.b.readers:
			held = append(held, r)
		case <-ctx.Done():
			return c.b.ctx.Err() // somebody reads for long: the next time
		}
	}
	if _, err := c.passive(); err != nil {
		return err
	}
	return c.b.writer.do(c.b.ctx, func(*conn) error {
		_, err := c.passive()
		return err
	})
}
