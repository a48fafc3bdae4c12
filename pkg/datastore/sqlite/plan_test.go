package sqlite

import (
	"context"
	"database/sql/driver"
	"strings"
	"testing"
)

// TestStatementsUseTheIndex keeps a statement from reading or sorting the whole
// table, which no test with a few rows would notice.
func TestStatementsUseTheIndex(t *testing.T) {
	b := newTestBackend(t)
	statements := map[string]string{
		"latest": latestSQL, "latestKey": latestKeySQL, "get": getSQL, "getKey": getKeySQL,
		"list": listSQL, "listKeys": listKeysSQL, "count": countSQL, "leases": leasesSQL, "history": historySQL,
		"compactReplaced": compactReplacedSQL, "compactDeleted": compactDeletedSQL,
		"current": currentSQL, "compacted": compactedSQL, "setCompacted": setCompactedSQL,
	}
	for name, statement := range statements {
		t.Run(name, func(t *testing.T) {
			var args []any
			for range strings.Count(statement, "?") {
				args = append(args, "1")
			}
			err := b.writer.do(t.Context(), func(db *conn) error {
				return db.query(context.Background(), "EXPLAIN QUERY PLAN "+statement, func(row []driver.Value) error {
					step := text(row[3])
					if strings.Contains(step, "TEMP B-TREE") || strings.Contains(step, "SCAN kine") || strings.Contains(step, "SCAN kv") {
						t.Errorf("plan: %s", step)
					}
					return nil
				}, args...)
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
