package servers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// awaitAPI waits until the API of a server says that it is ready.
func awaitAPI(t *testing.T, h *framework.Host) {
	t.Helper()
	framework.Eventually(t, 3*time.Minute, "the API of "+h.Hostname()+" is ready", func() error {
		out, err := h.TryKubectl(t.Context(), "get", "--raw", "/readyz")
		if err == nil && strings.TrimSpace(out) != "ok" {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
}

func TestAServerOnEtcdKeepsItsState(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	s := h.StartServer(t, "--cluster-init", "--disable-agent")
	awaitAPI(t, h)
	h.Kubectl(t, "create", "configmap", "kept", "--from-literal=a=b")
	s.MustStopCleanly(t)
	s = h.StartServer(t, "--disable-agent") // the data directory decides
	awaitAPI(t, h)
	if got := h.Kubectl(t, "get", "configmap", "kept", "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("the object has %q", got)
	}
	s.Kill9(t)
	s = h.StartServer(t, "--disable-agent")
	awaitAPI(t, h)
	h.Kubectl(t, "get", "configmap", "kept")
	s.MustStopCleanly(t)
}
