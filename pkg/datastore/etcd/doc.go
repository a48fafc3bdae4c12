// Package etcd is the embedded etcd: one member of a cluster of servers that
// keep the same state. It runs the member, lets other servers join as learners
// and become voters, removes those whose Node was removed, and looks after the
// space that the database may take. The wiring of a server imports it and
// nothing else does. docs/high-availability.md describes the whole.
package etcd
