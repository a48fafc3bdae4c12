package datastore

import (
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

// inProcess runs the calling test again, in a process of its own. Upstream's tests
// give an event 150 ms, which is not enough on a machine that other tests load: what
// fails has to pass when it is done once more.
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
	if out, err := again(t, k, string(text)); err != nil {
		t.Logf("%v, once more\n%s", err, out)
		if out, err := again(t, k, string(text)); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
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
