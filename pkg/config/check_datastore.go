package config

import (
	"net/url"
	"strings"
)

// datastoreEndpoint judges the kind and the shape of an endpoint. It never
// quotes the text, which may hold a password; pkg/datastore/external reads it.
func datastoreEndpoint(text string) error {
	const (
		etcd     = "https://etcd.example.com:2379"
		postgres = "postgres://USER:PASSWORD@HOST:5432/DATABASE"
		mysql    = "mysql://USER:PASSWORD@tcp(HOST:3306)/DATABASE"
		all      = "write it like " + etcd + ", " + postgres + " or " + mysql
	)
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return invalidf(all, "it does not begin with the kind of datastore")
	}
	switch scheme {
	case "http", "https":
		for member := range strings.SplitSeq(text, ",") {
			u, err := url.Parse(strings.TrimSpace(member))
			if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
				return invalidf("write it like "+etcd+", several separated by commas", "it is not a list of URLs of etcd servers")
			}
			if u.User != nil {
				return invalidf("use a client certificate: datastore-certfile and datastore-keyfile", "etcd is not asked with a user and a password")
			}
		}
	case "postgres", "postgresql":
		if _, err := url.Parse(text); err != nil {
			return invalidf("write it like "+postgres+", with special characters of the password as %XX", "it is not a URL")
		}
	case "mysql":
		if !strings.Contains(rest[strings.LastIndexByte(rest, ')')+1:], "/") {
			return invalidf("write it like "+mysql, "there is no / before the name of a database")
		}
	case "sqlite", "file":
		return invalidf("leave it out, and choose the place with data-dir", "the embedded SQLite is no endpoint: it is used when there is none")
	default:
		return invalidf(all+", or leave it out for the embedded SQLite", "datastores of the kind %s:// are not supported", scheme)
	}
	return nil
}

// validateDatastore finds files that nothing would read, halves of pairs, and two
// datastores at once.
func (l *loader) validateDatastore() {
	for _, name := range []string{"datastore-cafile", "datastore-certfile", "datastore-keyfile"} {
		if l.isSet(name) && !l.isSet("datastore-endpoint") {
			l.conflict(name, "there is no datastore-endpoint that it could be for", "set datastore-endpoint, or leave this out")
		}
	}
	if l.isSet("datastore-endpoint") {
		d := l.server.Datastore
		for name, set := range map[string]bool{"cluster-init": d.ClusterInit, "server": l.server.Join.Server != ""} {
			if set {
				l.conflict(name, "that is for the embedded etcd, and there is datastore-endpoint, too", "leave one of them out; servers that share a datastore-endpoint need the same token and nothing else")
			}
		}
	}
	if cert, key := l.isSet("datastore-certfile"), l.isSet("datastore-keyfile"); cert != key {
		have, want := "datastore-certfile", "datastore-keyfile"
		if key {
			have, want = want, have
		}
		l.conflict(have, "a certificate and its key go together, and there is no "+want, "set "+want)
	}
}
