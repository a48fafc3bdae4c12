package sqlite

// The table is kine's, so that a file can be taken to kine and back. Of kine's
// six indexes only one is kept: looking up the latest row of a key, or of a
// range of keys, is all that this package needs, and each index costs a page
// written per commit. kine creates what it misses when it opens the file.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS kine (
		id INTEGER PRIMARY KEY,
		name TEXT,
		created INTEGER,
		deleted INTEGER,
		create_revision INTEGER,
		prev_revision INTEGER,
		lease INTEGER,
		value BLOB,
		old_value BLOB
	)`,
	`CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id)`,
	`DROP INDEX IF EXISTS kine_name_index`,
	`DROP INDEX IF EXISTS kine_id_deleted_index`,
	`DROP INDEX IF EXISTS kine_prev_revision_index`,
	`DROP INDEX IF EXISTS kine_name_prev_revision_uindex`,
	`DROP INDEX IF EXISTS kine_id_compact_rev_key_with_prev_revision_index`,
}

// compactKey names the row whose prev_revision is the compacted revision. It is
// no key of a client's: kine keeps the API server's key of that name elsewhere.
const compactKey = "compact_rev_key"

// gapPrefix names rows with which kine fills revisions that were never
// committed. This package makes none.
const gapPrefix = "gap-"

const (
	beginSQL    = `BEGIN IMMEDIATE`
	commitSQL   = `COMMIT`
	rollbackSQL = `ROLLBACK`

	currentSQL     = `SELECT MAX(id) FROM kine`
	compactedSQL   = `SELECT MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key'`
	compactRowsSQL = `SELECT COUNT(*) FROM kine WHERE name = 'compact_rev_key'`

	// latestSQL is the newest row of a key, whatever it says.
	latestSQL = `SELECT id, created, deleted, create_revision, lease, value
		FROM kine INDEXED BY kine_name_id_index WHERE name = ?1 ORDER BY id DESC LIMIT 1`
	// latestKeySQL is latestSQL for a create, which does not need the value.
	latestKeySQL = `SELECT id, created, deleted, create_revision, lease
		FROM kine INDEXED BY kine_name_id_index WHERE name = ?1 ORDER BY id DESC LIMIT 1`
	// insertSQL leaves old_value out: the value before is the row prev_revision,
	// which exists for as long as a watcher may ask for this one.
	insertSQL = `INSERT INTO kine
		(id, name, created, deleted, create_revision, prev_revision, lease, value)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`

	getSQL = `SELECT id, created, deleted, create_revision, lease, value
		FROM kine INDEXED BY kine_name_id_index WHERE name = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1`
	getKeySQL = `SELECT id, created, deleted, create_revision, lease
		FROM kine INDEXED BY kine_name_id_index WHERE name = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1`

	// latestOfRange walks the index once, in key order, and gives the newest row
	// of every key as of a revision. The outer statements follow that order:
	// an ORDER BY would make SQLite sort whole values first.
	latestOfRange = `
		FROM (SELECT MAX(id) AS id FROM kine INDEXED BY kine_name_id_index
			WHERE name >= ?1 AND name < ?2 AND id <= ?3 GROUP BY name) AS latest
		CROSS JOIN kine AS kv ON kv.id = latest.id
		WHERE kv.deleted = 0 AND kv.name != 'compact_rev_key'`
	listSQL     = `SELECT kv.id, kv.name, kv.created, kv.create_revision, kv.lease, kv.value` + latestOfRange + ` LIMIT ?4`
	listKeysSQL = `SELECT kv.id, kv.name, kv.created, kv.create_revision, kv.lease` + latestOfRange + ` LIMIT ?4`
	countSQL    = `SELECT COUNT(*)` + latestOfRange
	leasesSQL   = `SELECT kv.name, kv.id, kv.lease` + latestOfRange + ` AND kv.lease > 0`

	historySQL = `SELECT kv.id, kv.name, kv.created, kv.deleted, kv.create_revision, kv.lease, kv.value,
			kv.prev_revision, prev.created, prev.create_revision, prev.lease, COALESCE(prev.value, kv.old_value)
		FROM kine AS kv LEFT JOIN kine AS prev ON prev.id = kv.prev_revision
		WHERE kv.id > ?1 AND kv.id <= ?2 AND kv.name >= ?3 AND kv.name < ?4
		ORDER BY kv.id LIMIT ?5`

	// Both deletes look only at the revisions (?1, ?2]: everything before has
	// been compacted already.
	compactReplacedSQL = `DELETE FROM kine WHERE id IN
		(SELECT prev_revision FROM kine WHERE id > ?1 AND id <= ?2 AND prev_revision != 0 AND name != 'compact_rev_key')`
	compactDeletedSQL = `DELETE FROM kine WHERE id > ?1 AND id <= ?2 AND deleted != 0
		AND id < (SELECT MAX(id) FROM kine)`
	setCompactedSQL = `UPDATE kine SET prev_revision = ?1 WHERE name = 'compact_rev_key'`

	pageSizeSQL  = `PRAGMA page_size`
	pageCountSQL = `PRAGMA page_count`
	freePagesSQL = `PRAGMA freelist_count`
)

// noEnd is an upper bound for a range without one. SQLite orders every blob
// after every text.
var noEnd = []byte{}
