package integration

import (
	"strings"
	"testing"
	"time"
)

func TestASecondSignalEndsTheServerAtOnce(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	server := h.StartServer(t)
	server.AwaitReady(t)
	// Two kinds, because a second signal of one kind is lost while the first
	// one waits to be delivered.
	h.Exec(t, "sh", "-c", "p=$(pgrep -x skiff); kill -TERM $p; kill -INT $p")
	if code := server.MustFail(t, 3*time.Second); code != 1 {
		t.Errorf("exit status %d: want 1", code)
	}
	if !strings.Contains(server.Logs(), "ending at once") {
		t.Errorf("it did not say why it ended:\n%s", server.Logs())
	}
}
