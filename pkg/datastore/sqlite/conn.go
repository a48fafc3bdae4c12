package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync/atomic"

	"modernc.org/sqlite"
)

// conn is one SQLite connection with its prepared statements. It speaks to the
// driver directly: database/sql would add a pool, locks and a context watcher
// per statement to connections that have exactly one owner. It is not safe for
// concurrent use.
type conn struct {
	raw   driver.Conn
	stmts map[string]driver.Stmt
	row   []driver.Value
	args  []driver.NamedValue
	ran   *atomic.Uint64 // counts statements, unless nil
}

// ownVFS is SQLite's for a database that one process has for itself: the index
// of the write-ahead log is in memory, not in a file of which each commit
// changes five pages, and the file is locked against other processes as long
// as it is open. See https://www.sqlite.org/vfs.html#standard_unix_vfses.
const ownVFS = "vfs=unix-excl"

// openConn opens the database file at path, which no other process may have
// open, and applies the pragmas in order.
func openConn(path string, pragmas ...string) (*conn, error) {
	return dial(url.URL{Scheme: "file", Path: path, RawQuery: ownVFS}, pragmas)
}

// openReadOnly opens the file for looking only: it changes neither the file nor
// its write-ahead log, not even when it is closed.
func openReadOnly(path string) (*conn, error) {
	return dial(url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro"}, []string{"busy_timeout = 10000"})
}

func dial(uri url.URL, pragmas []string) (*conn, error) {
	connector, err := sqlite.NewConnector(uri.String())
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, stmts: map[string]driver.Stmt{}}
	for _, pragma := range pragmas {
		if err := c.exec("PRAGMA " + pragma); err != nil {
			return nil, errors.Join(fmt.Errorf("PRAGMA %s: %w", pragma, err), c.close())
		}
	}
	return c, nil
}

// prepare is called once for each statement that is run.
func (c *conn) prepare(query string) (driver.Stmt, error) {
	if c.ran != nil {
		c.ran.Add(1)
	}
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a statement that returns nothing of interest. Statements stay
// prepared for the life of the connection, so their text must come from a
// fixed set.
func (c *conn) exec(query string, args ...any) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.(driver.StmtExecContext).ExecContext(context.Background(), c.bind(args))
	return err
}

// changed is exec for a caller who needs the number of rows changed.
func (c *conn) changed(query string, args ...any) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := s.(driver.StmtExecContext).ExecContext(context.Background(), c.bind(args))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query calls each with every row of the result. The slice is only valid
// during the call; the strings and byte slices in it may be kept. When ctx ends
// the statement is interrupted.
func (c *conn) query(ctx context.Context, query string, each func(row []driver.Value) error, args ...any) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	n := len(rows.Columns())
	if cap(c.row) < n {
		c.row = make([]driver.Value, n)
	}
	row := c.row[:n]
	for count := 0; ; count++ {
		if err := rows.Next(row); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		// The driver stops watching ctx once it has the first row.
		if count%256 == 255 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// queryInt returns the first column of the first row, 0 for none or NULL.
func (c *conn) queryInt(query string, args ...any) (int64, error) {
	var n int64
	err := c.query(context.Background(), query, func(row []driver.Value) error {
		n = integer(row[0])
		return nil
	}, args...)
	return n, err
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.raw.Close())...)
}

func integer(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func text(v driver.Value) string {
	switch t := v.(type) {
	case string:
		return t
	case []byte:
		return string(t)
	}
	return ""
}

func blob(v driver.Value) []byte {
	switch t := v.(type) {
	case []byte:
		return t
	case string:
		return []byte(t)
	}
	return nil
}
