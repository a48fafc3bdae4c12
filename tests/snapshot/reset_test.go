package snapshot

import (
	"fmt"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// TestOneServerOfThreeGoesOnAlone loses two of three servers for good. The third
// one makes a cluster of what it has, and another one joins it again.
func TestOneServerOfThreeGoesOnAlone(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	one, two, three := c.NewHost(t, "one"), c.NewHost(t, "two"), c.NewHost(t, "three")
	first := one.StartServer(t, "--disable-agent", "--cluster-init")
	token := first.Token(t)
	awaitAPI(t, one)
	for _, h := range []*framework.Host{two, three} {
		h.StartServer(t, "--disable-agent", "--server", first.URL(), "--token", token)
	}
	awaitAPI(t, two)
	awaitAPI(t, three)
	three.Kubectl(t, "create", "configmap", "early")
	snap := save(t, two)
	if snap.Metadata.Datastore != "etcd" || snap.Node != "two" {
		t.Errorf("a snapshot of one of three servers is %+v", snap)
	}
	three.Kubectl(t, "create", "configmap", "late")
	two.PowerOff(t)
	three.PowerOff(t)
	first.Kill9(t)

	// What one server has can be saved without the others.
	if alone := save(t, one, "--name=alone"); alone.Metadata.Revision <= snap.Metadata.Revision {
		t.Errorf("saved without the others is %+v, before that %+v", alone, snap)
	}
	said := one.Exec(t, "skiff", "server", "--cluster-reset")
	wants(t, "the reset", said, "the only one of its cluster", "before-restore-", "without --cluster-reset")
	first = one.StartServer(t, "--disable-agent")
	awaitAPI(t, one)
	one.Kubectl(t, "get", "configmap", "early", "late")
	one.Kubectl(t, "create", "configmap", "after")

	two.PowerOn(t)
	two.Exec(t, "rm", "-r", "/var/lib/skiff/server/db/etcd")
	second := two.StartServer(t, "--disable-agent", "--server", first.URL(), "--token", token)
	awaitAPI(t, two)
	two.Kubectl(t, "get", "configmap", "early", "late", "after")

	// A reset may also begin with a snapshot.
	second.Kill9(t)
	first.Kill9(t)
	two.Exec(t, "skiff", "server", "--cluster-reset", "--cluster-reset-restore-path="+snap.Name)
	two.StartServer(t, "--disable-agent")
	awaitAPI(t, two)
	two.Kubectl(t, "get", "configmap", "early")
	wants(t, "a look for what came after the snapshot", two.KubectlFails(t, nil, "get", "configmap", "late"), "NotFound")
}

// awaitAPI waits until a host's own server answers for the cluster.
func awaitAPI(t *testing.T, h *framework.Host) {
	t.Helper()
	framework.Eventually(t, patience, "the API of "+h.Hostname(), func() error {
		if _, err := h.TryKubectl(t.Context(), "get", "serviceaccount", "default"); err != nil {
			return fmt.Errorf("%s: %w", h.Hostname(), err)
		}
		return nil
	})
}
