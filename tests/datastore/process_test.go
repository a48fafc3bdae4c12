package datastore

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/skiff-k8s/skiff/tests/databases"
)

// The variables of a process of the tests for one kind: its name, and the
// database servers that are there already.
const (
	kindVar    = "SKIFF_DATASTORE_TEST_KIND"
	serversVar = "SKIFF_DATASTORE_TEST_SERVERS"
)

// ofThisProcess is the kind that this process is for.
func ofThisProcess() (kind, bool) {
	name := os.Getenv(kindVar)
	for _, k := range kinds() {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

// tooLate is what upstream's tests say when an event has not come within 150 ms.
const tooLate = "cannot receive enough events within specific time"

// inProcess runs the calling test again, in a process of its own. Where upstream's
// 150 ms for an event were not enough, as on a machine that other tests load, it is
// done once more.
func inProcess(t *testing.T, k kind) {
	t.Helper()
	known := map[string]databases.Server{}
	switch k.name {
	case "PostgreSQL":
		known["postgres"] = postgres(t).Server
	case "MariaDB":
		known["mariadb"] = mariaDB(t).Server
	}
	text, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	out, err := again(t, k, string(text))
	if err != nil && bytes.Contains(out, []byte(tooLate)) {
		t.Logf("%v, once more\n%s", err, out)
		out, err = again(t, k, string(text))
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// again runs the calling test for a kind.
func again(t *testing.T, k kind, servers string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStoresBehaveAsOnEtcd$")
	cmd.Env = append(os.Environ(), kindVar+"="+k.name, serversVar+"="+servers)
	return cmd.CombinedOutput()
}

// knownServer is a server that the process which started this one has started.
func knownServer(name string) (server, bool) {
	var known map[string]databases.Server
	if err := json.Unmarshal([]byte(os.Getenv(serversVar)), &known); err != nil {
		return server{}, false
	}
	s, ok := known[name]
	return server{s}, ok
}
