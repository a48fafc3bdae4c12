// Package sqlite is the embedded datastore: one SQLite file behind the interfaces
// of etcd's client, by calls for the API server in this process, and behind the
// etcd v3 API, by kine's server on a unix socket. The wiring of a server imports
// it and nothing else does.
//
// kine's own SQLite driver lets many connections fight for the one write lock
// of a database. This package brings its own kine backend instead: a single
// goroutine owns the only writing connection, takes every write that waits,
// applies them in one transaction, and answers each caller after the commit has
// reached the disk (write-ahead log, synchronous=FULL). Whoever was answered
// survives a power cut, and the cost of the disk's flush is shared, as in etcd.
// Because there is one writer, revisions are dense and in commit order, compares
// are exact, and watchers are fed from the writer without reading back.
//
// The file stays kine's: same table, same columns, same meaning of each row.
// See docs/datastore-sqlite.md for what differs and why.
package sqlite
