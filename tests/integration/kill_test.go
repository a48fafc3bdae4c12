package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// TestAServerIsKilledAgainAndAgain does with the whole server what the tests of
// pkg/datastore/sqlite do a hundred times with its datastore.
func TestAServerIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	server := h.StartServer(t, "--disable-agent")
	var acknowledged []string
	for round := range 8 {
		awaitAnswers(t, h)
		acknowledged = append(acknowledged, writeUntil(t, h, fmt.Sprint("round-", round), 1+rand.IntN(200), func() { server.Kill9(t) })...)
		server = h.StartServer(t, "--disable-agent")
		<-time.After(rand.N(1500 * time.Millisecond)) // a moment of the start, whichever
		server.Kill9(t)
		server = h.StartServer(t, "--disable-agent")
	}
	awaitAnswers(t, h)
	missing(t, h, acknowledged)
	server.MustStopCleanly(t)
}

// awaitAnswers waits until the API of a server without a node part is ready.
func awaitAnswers(t *testing.T, h *framework.Host) {
	t.Helper()
	framework.Eventually(t, 3*time.Minute, "the API is ready", func() error {
		_, err := h.TryKubectl(t.Context(), "get", "--raw", "/readyz")
		return err
	})
	h.Kubectl(t, "wait", "--for=create", "namespace/default", "--timeout=60s")
}
