// Package external is a datastore that runs elsewhere, named by
// --datastore-endpoint: etcd, to which the API server connects by itself, or a
// PostgreSQL, MySQL or MariaDB database, in front of which kine serves etcd's
// API on a unix socket. It waits for a datastore that does not answer yet, and
// says what is wrong with one that refuses. The wiring of a server imports it
// and nothing else does.
package external
