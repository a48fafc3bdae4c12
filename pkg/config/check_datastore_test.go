package config

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestDatastoreEndpointsAreJudgedAndNotQuoted(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://a:2379,https://b:2379":         "",
		"postgres://u:hunter2@h:5432/db":        "",
		"postgresql://u:hunter2@h/db":           "",
		"mysql://u:hunter2@tcp(h:3306)/db":      "",
		"db.example:5432":                       "does not begin with the kind of datastore",
		"nats://u:hunter2@h":                    "datastores of the kind nats:// are not supported",
		"sqlite:///var/lib/skiff/state.db":      "the embedded SQLite is no endpoint",
		"https://u:hunter2@h":                   "client certificate",
		"https://a,ftp://u:hunter2@b":           "not a list of URLs",
		"postgres://u:hunter2%zz@h/db":          "it is not a URL",
		"mysql://u:hunter2/@tcp(h:3306)cluster": "no / before the name",
	} {
		h := newHost(t)
		h.in.Environ = []string{"SKIFF_DATASTORE_ENDPOINT=" + endpoint}
		if want == "" {
			checkEndpoint(t, h, endpoint)
			continue
		}
		got := h.problems()
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", want, got)
		}
		if strings.Contains(fmt.Sprint(got), "hunter2") {
			t.Errorf("the password is in the message: %s", got)
		}
	}
}

// checkEndpoint looks at an endpoint that is right.
func checkEndpoint(t *testing.T, h *host, endpoint string) {
	t.Helper()
	r := h.load()
	if c := r.Server.Datastore; c.Endpoint.Reveal() != endpoint || c.Kind != DatastoreExternal {
		t.Errorf("it became %q, kind %s", c.Endpoint.Reveal(), c.Kind)
	}
	var b bytes.Buffer
	if err := WriteYAML(&b, r.Settings); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{b.String(), fmt.Sprintf("%v %+v %#v", r.Server, r.Server, r.Server)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is shown: %s", text)
		}
	}
}

func TestFilesOfADatastoreNeedOne(t *testing.T) {
	h := newHost(t).write("ca", "")
	h.in.Flags = Given{"datastore-cafile": {h.dir + "/ca"}}
	if got := h.problems(); len(got) != 1 || !strings.Contains(got[0], "there is no datastore-endpoint") {
		t.Errorf("%q", got)
	}
	h.in.Flags = Given{"datastore-certfile": {h.dir + "/ca"}, "datastore-endpoint": {"https://a"}}
	if got := h.problems(); len(got) != 1 || !strings.Contains(got[0], "there is no datastore-keyfile") {
		t.Errorf("%q", got)
	}
}
