package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// incrementalVacuum is auto_vacuum's mode in which the file shrinks in steps
// that we choose.
const incrementalVacuum = 2

// checkTime bounds the check after an unclean end: long enough for a small
// cluster's database, short enough not to hold up a start.
const checkTime = 500 * time.Millisecond

// Memory: the writer is the only one whose page cache stays valid, since
// every commit empties the others'. Values are KiB, as SQLite has it; a page in
// a cache takes twice its size. A read that misses costs no more than a copy
// from the kernel's cache.
var (
	writerPragmas = []string{
		"busy_timeout = 10000",
		fmt.Sprintf("page_size = %d", pageSize), // new files only
		fmt.Sprintf("auto_vacuum = %d", incrementalVacuum),
		"journal_mode = WAL",
		"synchronous = FULL",
		"wal_autocheckpoint = 0", // see checkpointer
		fmt.Sprintf("journal_size_limit = %d", 2*walPages*pageSize),
		"cache_size = -1024",
		"temp_store = MEMORY",
	}
	readerPragmas = []string{
		"busy_timeout = 10000",
		"query_only = ON",
		"cache_size = -128",
		"temp_store = MEMORY",
	}
	checkpointPragmas = []string{
		"busy_timeout = 10000",
		"synchronous = FULL",
		"wal_autocheckpoint = 0",
		fmt.Sprintf("journal_size_limit = %d", 2*walPages*pageSize),
		"cache_size = -64",
	}
)

// database is an open file: its connections and what they found.
type database struct {
	writer, checkpoints *conn
	readers             []*conn
	current, compacted  int64
}

// open makes or opens the database at path. Its errors are for people; when it
// fails nothing has been changed in a file that was there.
func open(path string, log *logrus.Entry) (*database, error) {
	unclean, err := prepareFiles(path)
	if err != nil {
		return nil, explain(path, err)
	}
	db := &database{}
	if err := db.connect(path, unclean, log); err != nil {
		return nil, explain(path, errors.Join(err, db.close()))
	}
	return db, nil
}

func (db *database) connect(path string, unclean bool, log *logrus.Entry) (err error) {
	if err := inspect(path, unclean, log); err != nil {
		return err
	}
	if db.writer, err = openConn(path, writerPragmas...); err != nil {
		return err
	}
	if err := migrate(db.writer); err != nil {
		return err
	}
	if err := slim(db.writer, log); err != nil {
		return err
	}
	if db.current, err = db.writer.queryInt(currentSQL); err != nil {
		return err
	}
	// kine's own tables also note the newest number that was ever given.
	noted, err := lastNoted(db.writer)
	if err != nil {
		return err
	}
	db.current = max(db.current, noted)
	if db.compacted, err = db.writer.queryInt(compactedSQL); err != nil {
		return err
	}
	if db.checkpoints, err = openConn(path, checkpointPragmas...); err != nil {
		return err
	}
	for range readers {
		r, err := openConn(path, readerPragmas...)
		if err != nil {
			return err
		}
		db.readers = append(db.readers, r)
	}
	return nil
}

func (db *database) close() error {
	var errs []error
	for _, c := range append(db.readers, db.checkpoints, db.writer) {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// inspect looks at a file that is there, without changing it, and refuses what
// is damaged or not ours.
func inspect(path string, unclean bool, log *logrus.Entry) error {
	c, err := openReadOnly(path)
	if err != nil {
		return err
	}
	start := time.Now()
	err = foreign(c)
	if err == nil && unclean {
		if err = quickCheck(c); err == nil {
			log.WithField("took", time.Since(start).Round(time.Millisecond)).
				Info("The last run did not end cleanly; the database is sound")
		}
	}
	return errors.Join(err, c.close())
}

// foreign refuses another program's database.
func foreign(c *conn) error {
	tables, err := c.queryInt(`SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return err
	}
	kine, err := c.queryInt(`SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'kine'`)
	if err == nil && tables > 0 && kine == 0 {
		err = fmt.Errorf("%w: it is a SQLite database of another program (it has no table \"kine\")", errDamaged)
	}
	return err
}

// quickCheck reads the whole file once, as far as it gets in checkTime.
func quickCheck(c *conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	finding := "ok"
	err := c.query(ctx, `PRAGMA quick_check(1)`, func(row []driver.Value) error {
		finding = text(row[0])
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case finding != "ok":
		return fmt.Errorf("%w: %s", errDamaged, strings.Join(strings.Fields(finding), " "))
	}
	return nil
}

// migrate makes the table, or takes over the one that kine left.
func migrate(c *conn) error {
	if err := c.exec(beginSQL); err != nil {
		return err
	}
	for _, statement := range schema {
		if err := c.exec(statement); err != nil {
			return errors.Join(err, c.exec(rollbackSQL))
		}
	}
	if err := compactRow(c); err != nil {
		return errors.Join(err, c.exec(rollbackSQL))
	}
	return c.exec(commitSQL)
}

// compactRow makes sure that there is one row that holds the compacted
// revision; old kine versions could leave two.
func compactRow(c *conn) error {
	n, err := c.queryInt(compactRowsSQL)
	switch {
	case err != nil || n == 1:
		return err
	case n == 0:
		return c.exec(`INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value)
			VALUES ('compact_rev_key', 1, 0, 0, 0, 0, x'')`)
	}
	return c.exec(`DELETE FROM kine WHERE name = 'compact_rev_key' AND id !=
		(SELECT id FROM kine WHERE name = 'compact_rev_key' ORDER BY prev_revision DESC, id LIMIT 1)`)
}

// lastNoted is what AUTOINCREMENT has kept, 0 for a table without it.
func lastNoted(c *conn) (int64, error) {
	n, err := c.queryInt(`SELECT COUNT(*) FROM sqlite_master WHERE name = 'sqlite_sequence'`)
	if err != nil || n == 0 {
		return 0, err
	}
	return c.queryInt(`SELECT MAX(seq) FROM sqlite_sequence WHERE name = 'kine'`)
}
