// Package datastore holds tests only: what an API server needs of a datastore,
// the same for every kind. They are the API server's own storage tests and, in
// contract_test.go, what those do not look at, without exceptions for any kind.
// Databases are Debian's, started by the tests (tests/databases). It is a package
// of its own so that the datastores' other tests need not compile the API server.
package datastore
