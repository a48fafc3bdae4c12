package framework

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// suite is set up by TestMain.
var suite *Suite

func TestMain(m *testing.M) {
	os.Exit(Main(m, func(s *Suite) { suite = s }))
}

// reaches is an error unless packets go from a host to an address and back.
func reaches(t *testing.T, from *Host, to netip.Addr) error {
	_, err := from.Try(t.Context(), nil, "busybox", "ping", "-c", "1", "-W", "1", to.String())
	return err
}

// awaitReaches is for after a cut: neighbours are looked for once a second.
func awaitReaches(t *testing.T, from, to *Host) {
	t.Helper()
	Eventually(t, 20*time.Second, from.Hostname()+" reaches "+to.Hostname(), func() error { return reaches(t, from, to.Address()) })
}

func TestHostsOfAClusterShareANetwork(t *testing.T) {
	for name, families := range map[string][]nshost.Family{
		"IPv4": nil, "IPv6": {nshost.IPv6}, "dual stack": {nshost.IPv4, nshost.IPv6},
	} {
		t.Run(name, func(t *testing.T) {
			c := suite.NewCluster(t, families...)
			hosts := []*Host{c.NewHost(t, "one"), c.NewHost(t, "two"), c.NewHost(t, "three")}
			outside := map[bool]string{true: "192.0.2.1", false: "2001:db8::1"}[c.Hosts()[0].Address().Is4()]
			c.Names.Set("outside.example.test", netip.MustParseAddr(outside))
			for i, h := range hosts {
				other := hosts[(i+1)%len(hosts)]
				if len(h.Addresses()) != max(1, len(families)) {
					t.Errorf("the addresses of %s: %v", h.Hostname(), h.Addresses())
				}
				for _, a := range other.Addresses() {
					Eventually(t, 20*time.Second, h.Hostname()+" reaches "+a.String(), func() error { return reaches(t, h, a) })
				}
				if got := h.Exec(t, "hostname"); got != h.Hostname()+"\n" {
					t.Errorf("a host is called %q, want %q", got, h.Hostname())
				}
				if got := h.Exec(t, "getent", "hosts", "outside.example.test"); !strings.HasPrefix(got, outside+" ") {
					t.Errorf("the nameserver said %q to %s", got, h.Hostname())
				}
			}
		})
	}
}

func TestWhatIsCutStaysCutUntilItIsHealed(t *testing.T) {
	c := suite.NewCluster(t)
	one, two, three := c.NewHost(t, "one"), c.NewHost(t, "two"), c.NewHost(t, "three")
	cut := func(from, to *Host) {
		t.Helper()
		if reaches(t, from, to.Address()) == nil {
			t.Errorf("%s reaches %s", from.Hostname(), to.Hostname())
		}
	}
	one.PartitionFrom(t, two, nshost.Both)
	one.Loss(t, 0.01)
	cut(one, two)
	awaitReaches(t, one, three)
	one.PartitionFrom(t, three, nshost.Outgoing)
	cut(one, three)
	cut(one, two)
	one.Reboot(t)
	cut(one, two)
	cut(three, one)
	one.Heal(t)
	awaitReaches(t, one, two)
	awaitReaches(t, three, one)
	one.Partition(t, nshost.Incoming)
	cut(two, one)
	one.Heal(t)
	awaitReaches(t, two, one)
}

func TestARebootedHostKeepsItsFiles(t *testing.T) {
	c := suite.NewCluster(t)
	one, two := c.NewHost(t, "one"), c.NewHost(t, "two")
	one.WriteFile(t, "/var/lib/kept", "kept")
	one.WriteFile(t, "/run/gone", "gone")
	old := one.Address()
	one.ChangeAddress(t)
	one.PowerOff(t)
	if reaches(t, two, one.Address()) == nil {
		t.Error("a host without power answers")
	}
	one.PowerOn(t)
	if got := one.ReadFile(t, "/var/lib/kept"); got != "kept" {
		t.Errorf("the file holds %q", got)
	}
	if _, err := one.Try(t.Context(), nil, "test", "-e", "/run/gone"); err == nil {
		t.Error("/run outlives a reboot")
	}
	awaitReaches(t, two, one)
	if one.Address() == old || reaches(t, two, old) == nil {
		t.Errorf("the host still has its old address %s", old)
	}
}

// A failed test shows and keeps what all hosts of its cluster have logged.
func TestAFailureShowsAllHosts(t *testing.T) {
	t.Setenv("KEEP", "failure")
	c := suite.NewCluster(t)
	one, two := c.NewHost(t, "one"), c.NewHost(t, "two")
	for _, h := range []*Host{one, two} {
		d, err := h.startDaemon("server", nil, []string{"--no-such-flag-on-" + h.Hostname()})
		if err != nil {
			t.Fatal(err)
		}
		d.MustFail(t, ReadyTimeout)
	}
	two.PowerOff(t)
	s := &Suite{artifacts: t.TempDir()}
	one.suite, two.suite = s, s
	var shown strings.Builder
	c.dump(t.Name(), func(a ...any) { fmt.Fprintln(&shown, a...) })
	for _, want := range []string{"no-such-flag-on-one", "no-such-flag-on-two", "one-server-1.log (kept as " + s.artifacts, "the state of host two (kept as "} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not in what was shown:\n%s", want, shown.String())
		}
	}
	entries, err := os.ReadDir(s.artifacts + "/" + t.Name())
	if err != nil || len(entries) < 4 {
		t.Errorf("kept: %v, %v", entries, err)
	}
}
