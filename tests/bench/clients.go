package main

import (
	"net"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The two ways to write objects that clients have: kubectl and most operators
// use JSON, Kubernetes' own components protobuf.
const (
	jsonObjects = "application/json"
	protobuf    = "application/vnd.kubernetes.protobuf"
)

// userAgent tells this program's requests from the system's own.
const userAgent = "skiff-bench"

// kindName is how the results call them.
func kindName(contentType string) string {
	if contentType == protobuf {
		return "protobuf"
	}
	return "JSON"
}

// newClient makes a client without limits. All clients of a server share one
// connection, as a process with client-go does.
func newClient(config *rest.Config, contentType string) (*kubernetes.Clientset, error) {
	c := rest.CopyConfig(config)
	c.QPS = -1
	c.ContentType = contentType
	c.AcceptContentTypes = contentType
	c.UserAgent = userAgent
	return kubernetes.NewForConfig(c)
}

// onOwnConnection makes a config whose clients share a connection among
// themselves only: client-go shares those of equal dialers.
func onOwnConnection(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.Dial = (&net.Dialer{}).DialContext
	return c
}
