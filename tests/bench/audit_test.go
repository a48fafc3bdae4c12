package main

import (
	"maps"
	"testing"
)

func TestClientsAreCountedOncePerRequest(t *testing.T) {
	const log = `{"stage":"ResponseComplete","verb":"update","requestURI":"/x","user":{"username":"system:node:n1"},"objectRef":{"resource":"leases"}}
{"stage":"ResponseComplete","verb":"patch","user":{"username":"system:node:n1"},"objectRef":{"resource":"nodes","subresource":"status"}}
{"stage":"ResponseStarted","verb":"watch","user":{"username":"u"},"objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"watch","user":{"username":"u"},"objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"get","requestURI":"/openapi/v3?timeout=32s","user":{"username":"u"}}
{"stage":"ResponseComplete","verb":"get","requestURI":"/metrics","userAgent":"skiff-bench","user":{"username":"admin"}}
{"stage":"ResponseComp`
	got, err := countClients([]byte(log), "n1")
	want := map[asking]int{
		{"system:node:NODE", "update", "leases"}: 1, {"system:node:NODE", "patch", "nodes/status"}: 1,
		{"u", "watch", "pods"}: 1, {"u", "get", "/openapi/v3"}: 1,
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
