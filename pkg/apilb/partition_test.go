package apilb

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
)

// A server behind a broken network sends no reset: its connections look open.
// Clients that only wait, such as watches, must hear of it all the same.
func TestAPartition(t *testing.T) {
	t.Parallel()
	_, inside := nstest.Inside(t)
	if !inside {
		return
	}
	near, far := startAPI(t, "near", "127.0.0.2:0"), startAPI(t, "far", "127.0.0.3:0")
	t.Cleanup(near.kill)
	t.Cleanup(far.kill)
	port := freePort(t)
	b := New(Config{Listen: port}, quiet())
	b.SetServers([]string{far.address})
	start(t, b)
	all := clients(t, b)
	waits := map[string]net.Conn{}
	for name, dial := range map[string]func() (net.Conn, error){
		"in the process": func() (net.Conn, error) { return b.DialContext(t.Context(), "tcp", "") },
		"by the port":    func() (net.Conn, error) { return net.Dial("tcp", port.String()) },
	} {
		raw, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		waits[name] = c
	}
	b.SetServers([]string{far.address, near.address})
	healthy := openStream(t, all["in the process"], port)
	if got, err := healthy.says(); got != "far" || err != nil {
		t.Fatalf("connected to %q (%v)", got, err)
	}

	cut := time.Now()
	nft(t, "add table ip cut; add chain ip cut out { type filter hook output priority 0; }; add rule ip cut out ip daddr 127.0.0.3 drop; add rule ip cut out ip saddr 127.0.0.3 drop")
	for name, c := range waits {
		c.SetReadDeadline(cut.Add(25 * time.Second))
		_, err := c.Read(make([]byte, 1))
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: after 25 s of a partition, the connection gives %v", name, err)
		}
		t.Logf("%s: noticed after %v: %v", name, time.Since(cut), err)
	}
	for name, client := range all {
		if got := who(t, client, port); got != "near" {
			t.Errorf("%s: %s answers", name, got)
		}
	}

	// When the network is back, the server is used again if it is needed.
	nft(t, "delete table ip cut")
	near.kill()
	waitUntil(t, func() bool {
		got, err := ask(all["in the process"], netip.MustParseAddrPort("127.0.0.1:1"))
		return got == "far" && err == nil
	}, "the server behind the partition answers again")
}

func nft(t *testing.T, rules string) {
	t.Helper()
	if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v: %s", rules, err, out)
	}
}
