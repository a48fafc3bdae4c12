package snapshot

import (
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

const (
	state  = "/var/lib/skiff/server"
	flawed = "/root/flawed" + suffix
)

// TestWhatCannotBeRestoredChangesNothing refuses, one after the other, all that
// must not replace the state of a server, which then goes on as if nothing had
// been tried.
func TestWhatCannotBeRestoredChangesNothing(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	server := startAlone(t, h)
	h.Kubectl(t, "create", "configmap", "old")
	before := save(t, h, "--name=before")
	if info := h.Exec(t, "stat", "-c", "%a %U", before.Location); strings.TrimSpace(info) != "600 root" {
		t.Errorf("the file is of %s", info)
	}
	if n := before.Metadata.Keys; n < 100 || before.Metadata.Sealed != "" {
		t.Errorf("the list says %d keys, and of the sealed keys %q", n, before.Metadata.Sealed)
	}
	h.Kubectl(t, "create", "configmap", "new")
	wants(t, "a restore beside a server", refused(t, h, "restore", before.Name), "skiff is running", "systemctl stop skiff")
	server.MustStopCleanly(t)

	was := fingerprint(t, h, state)
	h.Exec(t, "sh", "-c", "head -c 5000 "+before.Location+" >"+flawed)
	wants(t, "the restore of a cut file", refused(t, h, "restore", flawed), flawed, "cut short")
	h.Exec(t, "sh", "-c", "{ head -c 3000 "+before.Location+"; printf x; tail -c +3002 "+before.Location+"; } >"+flawed)
	wants(t, "the restore of an altered file", refused(t, h, "restore", flawed), flawed, "altered or damaged")
	wants(t, "the restore of a database", refused(t, h, "restore", state+"/db/state.db"), "not a snapshot of Skiff")
	h.Exec(t, "sh", "-c", "{ echo skiff-snapshot/2; tail -c +18 "+before.Location+"; } >"+flawed)
	wants(t, "the restore of a newer format", refused(t, h, "restore", flawed), "newer version of Skiff")
	wants(t, "the restore of nothing", refused(t, h, "restore", "nothing-there"), "there is no snapshot nothing-there", directory)
	wants(t, "a restore with a wrong token", refused(t, h, "restore", "--token=wrong", before.Name), "the token that was given does not open the snapshot", "--token")
	wants(t, "a restore with another cluster's token", refused(t, h, "restore", "--token=K10"+strings.Repeat("a", 64)+"::server:password", before.Name), "of another cluster")
	if now := fingerprint(t, h, state); now != was {
		t.Errorf("after all refusals the state is another one:\nwas\n%s\nis\n%s", was, now)
	}

	server = startAlone(t, h)
	h.Kubectl(t, "get", "configmap", "old", "new")
	server.MustStopCleanly(t)

	// Without a server everything works, too: the state of now is saved, that
	// of before restored, and what it replaced is kept.
	now := save(t, h)
	if !strings.HasPrefix(now.Name, "on-demand-") || now.Metadata.Revision <= before.Metadata.Revision {
		t.Errorf("a save without a server gives %+v", now)
	}
	said := h.Exec(t, "skiff", "snapshot", "restore", before.Name)
	wants(t, "the restore", said, before.Name, state+"/before-restore-")
	server = startAlone(t, h)
	h.Kubectl(t, "get", "configmap", "old")
	wants(t, "a look for what came later", h.KubectlFails(t, nil, "get", "configmap", "new"), "NotFound")
	server.MustStopCleanly(t)

	// A restore that was interrupted is not overlooked.
	h.WriteFile(t, state+"/restore-unfinished", "/somewhere\n")
	broken := h.StartServer(t, "--disable-agent")
	broken.MustFail(t, patience)
	wants(t, "a start after an interrupted restore", broken.Logs(), "a restore was interrupted", "skiff snapshot restore", "/somewhere")
	h.Exec(t, "skiff", "snapshot", "restore", now.Name)
	startAlone(t, h)
	h.Kubectl(t, "get", "configmap", "new")
}

// TestAFullDiskLeavesNothingBehind fills the disk of snapshots, and that of a
// server that is to be restored.
func TestAFullDiskLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	server := startAlone(t, h)
	token := server.Token(t)
	// Random bytes cannot be compressed.
	h.Exec(t, "sh", "-c", "head -c 700000 /dev/urandom >/root/noise")
	h.Kubectl(t, "create", "configmap", "noise", "--from-file=/root/noise")
	snap := save(t, h)
	server.MustStopCleanly(t)

	h.Exec(t, "sh", "-c", "for d in small:300k sqlite:900k etcd:40m; do mkdir /mnt/${d%:*} && mount -t tmpfs -o size=${d#*:} none /mnt/${d%:*}; done")
	wants(t, "a save on a full disk", refused(t, h, "save", "--snapshot-dir=/mnt/small"), "no space is left in /mnt/small", "skiff snapshot prune")
	if left := h.Exec(t, "ls", "-A", "/mnt/small"); left != "" {
		t.Errorf("a save on a full disk leaves %s", left)
	}
	for into, why := range map[string]string{"sqlite": "the disk is full", "etcd": "no space is left"} {
		data := "/mnt/" + into
		h.Exec(t, "sh", "-c", "mkdir -p "+data+"/server/db && echo precious >"+data+"/server/db/state.db")
		was := fingerprint(t, h, data+"/server")
		wants(t, "a restore on a full disk", refused(t, h, "restore", "--data-dir="+data, "--into="+into, "--token="+token, snap.Location), why, "nothing was changed")
		if now := fingerprint(t, h, data+"/server"); now != was {
			t.Errorf("after a restore into %s on a full disk the state is\n%s\nwas\n%s", into, now, was)
		}
	}
}

// startAlone starts a control plane and waits until it answers.
func startAlone(t *testing.T, h *framework.Host) *framework.Server {
	t.Helper()
	server := h.StartServer(t, "--disable-agent")
	awaitAPI(t, h)
	return server
}

// fingerprint is what is in a directory.
func fingerprint(t *testing.T, h *framework.Host, dir string) string {
	t.Helper()
	return h.Exec(t, "sh", "-c", "cd "+dir+" && find . -type f -exec sha256sum {} + | sort -k2")
}
