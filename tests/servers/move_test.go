package servers

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

const event = `
apiVersion: v1
kind: Event
metadata: {name: happened, namespace: default}
involvedObject: {kind: ConfigMap, name: kept-0, namespace: default}
reason: Tested
message: it has a lease
type: Normal
`

// objects are what the default namespace has of some kinds, with identity,
// resource version and content, and the revision at which they were read.
func objects(t *testing.T, h *framework.Host) (all map[string]string, newest int64) {
	t.Helper()
	all = map[string]string{}
	for _, kind := range []string{"configmaps", "secrets", "events", "serviceaccounts"} {
		var list struct {
			Metadata struct{ ResourceVersion string }
			Items    []struct {
				Metadata struct{ Name, UID, ResourceVersion string }
				Data     map[string]string
				Message  string
			}
		}
		out := h.Kubectl(t, "get", "--raw", "/api/v1/namespaces/default/"+kind)
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			all[kind+"/"+o.Metadata.Name] = fmt.Sprint(o.Metadata.UID, o.Metadata.ResourceVersion, o.Data, o.Message)
		}
		at, err := strconv.ParseInt(list.Metadata.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		newest = max(newest, at)
	}
	return all, newest
}

func TestAClusterMovesFromSQLiteToEtcd(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	s := h.StartServer(t, alone()...)
	awaitAPI(t, h)
	h.Kubectl(t, "wait", "--for=create", "--timeout=60s", "serviceaccount/default")
	h.Kubectl(t, "wait", "--for=create", "--timeout=60s", "configmap/kube-root-ca.crt")
	for i := range 4 {
		h.Kubectl(t, "create", "configmap", fmt.Sprint("kept-", i), "--from-literal=n="+strconv.Itoa(i))
	}
	h.Kubectl(t, "create", "secret", "generic", "hidden", "--from-literal=a=b")
	h.Apply(t, event)
	h.Kubectl(t, "delete", "configmap", "kept-3") // the newest revision is that of no object
	before, at := objects(t, h)
	s.Kill9(t) // not even a clean end is needed

	s = h.StartServer(t, alone("--cluster-init")...)
	awaitAPI(t, h)
	after, now := objects(t, h)
	for name, want := range before {
		if got := after[name]; got != want {
			t.Errorf("%s was %s and is %s", name, want, got)
		}
	}
	if len(before) < 7 || len(after) != len(before) {
		t.Errorf("there were %d objects and are %d", len(before), len(after))
	}
	if now <= at {
		t.Errorf("the revision went from %d to %d", at, now)
	}
	h.Kubectl(t, "create", "configmap", "new")
	files := h.Exec(t, "ls", "/var/lib/skiff/server/db")
	if !strings.Contains(files, "state.db.moved-") || strings.Contains(files, "state.db\n") {
		t.Errorf("the directory of the datastore has\n%s", files)
	}
	s.MustStopCleanly(t)

	// The flag stays in many a configuration.
	s = h.StartServer(t, alone("--cluster-init")...)
	awaitAPI(t, h)
	h.Kubectl(t, "get", "configmap", "kept-0", "new")
	s.MustStopCleanly(t)
}

// TestAFullDatastoreComesBack fills etcd to its quota, and takes both ways out.
func TestAFullDatastoreComesBack(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	const quota = 16 << 20
	s := h.StartServer(t, alone("--cluster-init", "--etcd-arg=quota-backend-bytes="+strconv.Itoa(quota))...)
	awaitAPI(t, h)
	h.WriteFile(t, "/root/large", strings.Repeat("x", 900<<10))
	made := 0
	fill := func(limit int) {
		t.Helper()
		for range 2 * limit >> 20 {
			made++
			if _, err := h.TryKubectl(t.Context(), "create", "configmap", fmt.Sprint("large-", made), "--from-file=/root/large"); err != nil {
				if !strings.Contains(err.Error(), "space exceeded") {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("more than %d bytes are taken", limit)
	}
	writable := func() error {
		_, err := h.TryKubectl(t.Context(), "create", "configmap", "small")
		return err
	}
	fill(quota)
	framework.Eventually(t, 2*time.Minute, "the log says what to do", func() error {
		if log := s.Logs(); !strings.Contains(log, "The datastore has reached its quota of 16 MiB") || !strings.Contains(log, "--etcd-arg=quota-backend-bytes=") {
			return fmt.Errorf("it does not")
		}
		return nil
	})

	// One way: delete what is not needed.
	large := strings.Fields(h.Kubectl(t, "get", "configmaps", "-o", "name"))
	for _, name := range large {
		if strings.Contains(name, "large") {
			h.Kubectl(t, "delete", name)
		}
	}
	framework.Eventually(t, 3*time.Minute, "there is room after deleting", writable)
	h.Kubectl(t, "delete", "configmap", "small")

	// The other: a larger quota.
	fill(quota)
	s.MustStopCleanly(t)
	s = h.StartServer(t, alone("--etcd-arg=quota-backend-bytes="+strconv.Itoa(4*quota))...)
	awaitAPI(t, h)
	framework.Eventually(t, 3*time.Minute, "there is room with a larger quota", writable)
	s.MustStopCleanly(t)
}
