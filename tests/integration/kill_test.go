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
// forgets what was not flushed. The first cut is in the server's first seconds.
func TestAServerOutlivesPowerCuts(t *testing.T) {
	t.Parallel()
	const rounds = 12
	disk := newForgetfulDisk(t)
	h := suite.NewHost(t, nshost.Bind{Source: disk.at, Target: "/var/lib/skiff"})
	var acknowledged []string
	var token string
	for round := range rounds {
		server := h.StartServer(t, "--disable-agent")
		if round%3 == 0 {
			<-time.After(rand.N(2 * time.Second)) // a moment of the start, whichever
			h.PowerOff(t)
		} else {
			awaitAnswers(t, h)
			if told := server.Token(t); token != "" && told != token {
				t.Fatal("the token is another one than agents were told before the cut")
			} else {
				token = told
			}
			acknowledged = append(acknowledged, writeUntil(t, h, fmt.Sprint("round-", round), 1+rand.IntN(200), func() { h.PowerOff(t) })...)
		}
		disk.cut(t, round)
		h.PowerOn(t)
	}
	server := h.StartServer(t, "--disable-agent")
	awaitAnswers(t, h)
	missing(t, h, acknowledged)
	server.MustStopCleanly(t)
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

// cut cuts the power of a disk that nobody uses any more. In every second round
// nothing is left of what was not flushed, else any part of it.
func (d *forgetfulDisk) cut(t *testing.T, round int) {
	t.Helper()
	if err := d.unmount(); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	d.Cut(float64(round%2)/2, rand.New(rand.NewPCG(seed, 0)))
	t.Logf("cut %d, seed %d", round, seed)
	d.mount(t)
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
