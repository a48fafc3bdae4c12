//go:build tools

// Package s3server pins the S3 server that the tests of snapshots run: a real
// one, as a module of its own, so that Skiff's own dependencies stay apart from
// its.
package s3server

import _ "github.com/versity/versitygw/cmd/versitygw"
