// Package kineapi serves etcd's API from a kine backend the way that Skiff wants
// it: nothing of a failed request is logged, a list is of one
// revision, and the socket is closed to others. Packages below pkg/datastore
// import it; it imports pkg/internal only.
package kineapi
