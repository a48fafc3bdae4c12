// Package kinewatch serves etcd's Watch API from the committed events of a kine
// backend. kine's own service wakes ten times a second for each of the API
// server's 70 streams, which is more CPU at rest than everything else together,
// answers progress requests up to 100 ms late, and begins a watch while writes
// are under way with what the database shows at that moment, so that a write
// which is committed a moment later under a smaller revision is never told of.
// This one sleeps until there is something to say, and says everything once and
// in order. Packages below pkg/datastore import it; it imports pkg/internal only.
package kinewatch
