package integration

import (
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

func TestAFullDiskIsSpokenOfAndLeft(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	const db = "/var/lib/skiff/server/db"
	h.Exec(t, "sh", "-c", "mkdir -p "+db+" && mount -t tmpfs -o size=128m none "+db)
	server := h.StartServer(t, "--disable-agent")
	awaitAnswers(t, h)
	h.Kubectl(t, "create", "configmap", "before")
	alarm := func() string {
		for line := range strings.Lines(h.Kubectl(t, "get", "--raw", "/metrics")) {
			if level, ok := strings.CutPrefix(line, "skiff_datastore_space_alarm "); ok {
				return strings.TrimSpace(level)
			}
		}
		return "missing"
	}
	if got := alarm(); got != "0" {
		t.Errorf("the alarm is %s on a disk with space", got)
	}
	h.Exec(t, "sh", "-c", `head -c $(($(stat -f -c '%f * %S' `+db+`) - 1500000)) /dev/zero >`+db+`/ballast`)
	said := h.KubectlFails(t, nil, "create", "configmap", "refused")
	for _, want := range []string{"database space exceeded", "free some space"} {
		if !strings.Contains(said, want) {
			t.Errorf("creating an object on a full disk does not say %q: %s", want, said)
		}
	}
	if got := alarm(); got == "0" || got == "missing" {
		t.Errorf("the alarm is %s on a full disk", got)
	}
	if want := "is almost full"; !strings.Contains(server.Logs(), want) {
		t.Errorf("the log does not say %q", want)
	}
	h.Kubectl(t, "delete", "configmap", "before")
	h.Exec(t, "rm", db+"/ballast")
	framework.Eventually(t, framework.ReadyTimeout, "objects are created again", func() error {
		_, err := h.TryKubectl(t.Context(), "create", "configmap", "after")
		return err
	})
	server.MustStopCleanly(t)
}
