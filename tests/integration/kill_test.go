package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/forgetfs"
	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// TestAServerIsKilledAHundredTimes kills it while clients write, and at a moment
// of its start, in turn.
func TestAServerIsKilledAHundredTimes(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t)
	var acknowledged []string
	for round := range 50 {
		server := h.StartServer(t, "--disable-agent")
		awaitAnswers(t, h)
		acknowledged = append(acknowledged, writeUntil(t, h, fmt.Sprint("round-", round), 1+rand.IntN(200), func() { server.Kill9(t) })...)
		server = h.StartServer(t, "--disable-agent")
		<-time.After(rand.N(1500 * time.Millisecond)) // a moment of the start, whichever
		server.Kill9(t)
	}
	server := h.StartServer(t, "--disable-agent")
	awaitAnswers(t, h)
	missing(t, h, acknowledged)
	server.MustStopCleanly(t)
}

// TestAServerOutlivesPowerCuts has everything that a server keeps on a disk that
// forgets what was not flushed.
func TestAServerOutlivesPowerCuts(t *testing.T) {
	t.Parallel()
	disk := newForgetfulDisk(t)
	h := suite.NewHost(t, nshost.Bind{Source: disk.at, Target: "/var/lib/skiff"})
	start := func() *framework.Server { return h.StartServer(t, "--disable-agent") }
	for round := range 5 { // the first start of all
		disk.cut(t, h, round, true)
		start()
		<-time.After(rand.N(1500 * time.Millisecond)) // a moment of it, whichever
		disk.cut(t, h, round, false)
		start()
		awaitAnswers(t, h)
	}
	// What agents and people were told of holds from now on.
	told := func() string {
		return h.Exec(t, "cat", "/var/lib/skiff/server/token", "/var/lib/skiff/server/tls/server-ca.crt", "/etc/skiff/kubeconfig.yaml")
	}
	before := told()
	var acknowledged []string
	for round := range 8 {
		acknowledged = append(acknowledged, writeUntil(t, h, fmt.Sprint("round-", round), 1+rand.IntN(200), func() { h.PowerOff(t) })...)
		disk.cut(t, h, round, false)
		if round%2 == 0 {
			start()
			<-time.After(rand.N(2 * time.Second)) // a moment of the start, whichever
			disk.cut(t, h, round, false)
		}
		start()
		awaitAnswers(t, h)
	}
	missing(t, h, acknowledged)
	if told() != before {
		t.Error("the token, the CA or the kubeconfig is another one than before the cuts")
	}
}

// forgetfulDisk is mounted on the machine, for a host to bind.
type forgetfulDisk struct {
	*forgetfs.Disk
	at      string
	unmount func() error
}

func newForgetfulDisk(t *testing.T) *forgetfulDisk {
	d := &forgetfulDisk{Disk: forgetfs.New(), at: t.TempDir()}
	d.mount(t)
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *forgetfulDisk) mount(t *testing.T) {
	t.Helper()
	var err error
	if d.unmount, err = d.Mount(d.at); err != nil {
		t.Fatal(err)
	}
}

// cut cuts the power of a host and of its disk, and puts it on again. In every
// second round nothing is left of what was not flushed, else any part of it, and
// of an empty disk nothing at all.
func (d *forgetfulDisk) cut(t *testing.T, h *framework.Host, round int, empty bool) {
	t.Helper()
	h.PowerOff(t)
	if err := d.unmount(); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	d.Cut(float64(round%2)/2, rand.New(rand.NewPCG(seed, 0)))
	if empty {
		d.Load(nil)
	}
	t.Logf("cut %d, seed %d", round, seed)
	d.mount(t)
	h.PowerOn(t)
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
