package nshost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// comesToReach waits until packets go from a host to an address and back: a
// busy machine takes its time, and hosts that asked in vain for a neighbour ask
// again after a second.
func comesToReach(t *testing.T, from *Host, to netip.Addr) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return until(ctx, 100*time.Millisecond, func() (bool, error) { return reaches(t, from, to), nil }) == nil
}

// reaches says whether packets go from a host to an address and back at once.
func reaches(t *testing.T, from *Host, to netip.Addr) bool {
	t.Helper()
	err := from.Run(t.Context(), Cmd{Args: []string{"busybox", "ping", "-c", "2", "-i", "0.2", "-W", "1", to.String()}})
	if err != nil && !errors.As(err, new(*ExitError)) {
		t.Fatal(err)
	}
	return err == nil
}

func setFaults(t *testing.T, h *Host, f Faults) {
	t.Helper()
	if err := h.SetFaults(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestNetworksHaveTheFamiliesThatWereAskedFor(t *testing.T) {
	for name, families := range map[string][]Family{"IPv4": {IPv4}, "IPv6": {IPv6}, "both": {IPv6, IPv4}} {
		t.Run(name, func(t *testing.T) {
			n, a, b := twoHosts(t, families...)
			if len(a.Addresses()) != len(families) {
				t.Fatalf("addresses: %v", a.Addresses())
			}
			for i, to := range a.Addresses() {
				if to.Is6() != (families[i] == IPv6) {
					t.Errorf("address %d is %s", i, to)
				}
				if !comesToReach(t, b, to) {
					t.Errorf("b does not reach %s", to)
				}
				if !comesToReach(t, a, n.Gateways[i]) {
					t.Errorf("a does not reach the machine at %s", n.Gateways[i])
				}
			}
		})
	}
}

func TestFaults(t *testing.T) {
	n, a, b := twoHosts(t)
	c := addHost(t, n, a, "c")
	healed := func(t *testing.T) {
		t.Helper()
		setFaults(t, a, Faults{})
		if !comesToReach(t, b, a.Address()) || !comesToReach(t, a, n.Gateway()) {
			t.Error("the connection does not work after it has been mended")
		}
	}

	t.Run("a cut host reaches nobody, and others reach each other", func(t *testing.T) {
		setFaults(t, a, Faults{Cut: Both})
		if reaches(t, a, b.Address()) || reaches(t, b, a.Address()) || reaches(t, a, n.Gateway()) {
			t.Error("packets pass")
		}
		if !comesToReach(t, b, c.Address()) {
			t.Error("b and c are cut off as well")
		}
		healed(t)
	})

	for name, cut := range map[string]Direction{"incoming": Incoming, "outgoing": Outgoing} {
		t.Run("only "+name+" packets are lost", func(t *testing.T) {
			setFaults(t, a, Faults{Cut: cut})
			if reached := arrivals(t, a, 20); (reached > 0) != (cut == Outgoing) {
				t.Errorf("%d packets reached the host", reached)
			}
			if left := departures(t, a, 20); (left > 0) != (cut == Incoming) {
				t.Errorf("%d packets left the host", left)
			}
			healed(t)
		})
	}

	t.Run("two hosts are cut from each other and reach a third", func(t *testing.T) {
		setFaults(t, a, Faults{From: map[*Host]Direction{b: Both}})
		if reaches(t, a, b.Address()) || reaches(t, b, a.Address()) {
			t.Error("packets pass")
		}
		if !comesToReach(t, a, c.Address()) || !comesToReach(t, b, c.Address()) {
			t.Error("the third host is cut off as well")
		}
		healed(t)
	})

	t.Run("a share of packets is lost in both directions", func(t *testing.T) {
		setFaults(t, a, Faults{Loss: 0.5})
		const sent = 1000 // the share of so many is within a tenth of a half but for one time in 10^9
		for what, got := range map[string]int{"arrived": arrivals(t, a, sent), "left": departures(t, a, sent)} {
			if got < 400 || got > 600 {
				t.Errorf("%d of %d packets %s", got, sent, what)
			}
		}
		healed(t)
	})

	t.Run("a rate bounds both directions", func(t *testing.T) {
		setFaults(t, a, Faults{Rate: 8e6})
		const size = 2 << 20 // 2.1 s at that rate, less what the bucket holds
		for what, took := range transfers(t, a, size) {
			if took < time.Second || took > 20*time.Second {
				t.Errorf("%s took %s", what, took)
			}
		}
		healed(t)
		if got := output(t, a, "tc", "qdisc", "show", "dev", "eth0"); strings.Contains(got, "tbf") {
			t.Errorf("the bound is still there: %s", got)
		}
	})

	t.Run("connections begin only from inside", func(t *testing.T) {
		setFaults(t, a, Faults{NoInbound: true})
		if reaches(t, b, a.Address()) {
			t.Error("b can begin a connection")
		}
		if !comesToReach(t, a, b.Address()) || !comesToReach(t, a, n.Gateway()) {
			t.Error("the host can begin none")
		}
		healed(t)
	})
}

// arrivals sends datagrams from the machine to a closed port of a host and
// gives how many the host has counted.
func arrivals(t *testing.T, h *Host, count int) int {
	t.Helper()
	before := closedPortDatagrams(t, h)
	for range count {
		// A new socket each: the kernel tells one that the port is closed.
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Address(), 9)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	return closedPortDatagrams(t, h) - before
}

func closedPortDatagrams(t *testing.T, h *Host) int {
	t.Helper()
	number, err := strconv.Atoi(output(t, h, "sh", "-c", `awk '/^Udp: [0-9]/ {print $3}' /proc/net/snmp`))
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// departures sends datagrams from a host to the machine and counts them there.
// Each write has to succeed: nobody tells a program that its packet is lost.
func departures(t *testing.T, h *Host, count int) int {
	t.Helper()
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Gateway(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	output(t, h, "bash", "-ec", fmt.Sprintf("for ((i = 0; i < %d; i++)); do echo $i >/dev/udp/${0%%:*}/${0##*:}; done", count), l.LocalAddr().String())
	got := 0
	for {
		// A veth pair delivers before the write returns.
		if err := l.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Read(make([]byte, 16)); err != nil {
			return got
		}
		got++
	}
}

// transfers moves bytes from the machine to a host and back, and gives how
// long each took.
func transfers(t *testing.T, h *Host, size int64) map[string]time.Duration {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(h.Gateway().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	where := fmt.Sprintf("/dev/tcp/%s/%d", h.Gateway(), l.Addr().(*net.TCPAddr).Port)
	transfer := func(script string, move func(net.Conn) (int64, error)) time.Duration {
		begin := time.Now()
		p, err := h.Start(t.Context(), Cmd{Args: []string{"bash", "-ec", script}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := move(c); n != size || err != nil {
			t.Errorf("%d bytes went by %s, then: %v", n, script, err)
		}
		c.Close()
		if exit, err := p.Wait(); exit.Code != 0 || err != nil {
			t.Errorf("%s: %+v, %v", script, exit, err)
		}
		return time.Since(begin)
	}
	return map[string]time.Duration{
		"a download": transfer("cat >/dev/null <"+where, func(c net.Conn) (int64, error) { return io.CopyN(c, zeros{}, size) }),
		"an upload":  transfer(fmt.Sprintf("head -c %d /dev/zero >%s", size, where), func(c net.Conn) (int64, error) { return io.Copy(io.Discard, c) }),
	}
}

func TestAHostThatWasStoppedStartsAgain(t *testing.T) {
	n, a, b := twoHosts(t)
	address := a.Address()
	setFaults(t, a, Faults{From: map[*Host]Direction{b: Both}})
	output(t, a, "sh", "-c", "echo kept >/var/lib/kept && mkdir /etc/skiff && echo kept >/etc/skiff/kept && echo gone >/run/gone")
	hardware, boot := output(t, a, "cat", "/sys/class/net/eth0/address"), output(t, a, "cat", "/proc/sys/kernel/random/boot_id")
	p, err := a.Start(t.Context(), Cmd{Args: []string{"sleep", "100000"}})
	if err != nil {
		t.Fatal(err)
	}

	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err == nil {
		t.Errorf("the end of the host was reported as the process' own: %+v", exit)
	}
	if a.Running() {
		t.Error("the host runs after Stop")
	}
	if err := a.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}

	if got := output(t, a, "cat", "/var/lib/kept", "/etc/skiff/kept"); got != "kept\nkept" {
		t.Errorf("files hold %q", got)
	}
	if got := output(t, a, "sh", "-c", "ls /run; cat /proc/[0-9]*/comm"); got != "lock\nskiff-host-init\nsh" {
		t.Errorf("/run and the processes: %q", got)
	}
	if got := output(t, a, "cat", "/sys/class/net/eth0/address"); got != hardware || a.Address() != address {
		t.Errorf("the addresses were %s, %s and are %s, %s", hardware, address, got, a.Address())
	}
	if got := output(t, a, "cat", "/proc/sys/kernel/random/boot_id"); got == boot || len(got) != len(boot) {
		t.Errorf("the boot id was %s and is %s", boot, got)
	}
	if reaches(t, a, b.Address()) {
		t.Error("the start has mended the connection")
	}
	if !comesToReach(t, a, n.Gateway()) {
		t.Error("the machine is not reached after the start")
	}
}

func TestAddressesChange(t *testing.T) {
	n, a, b := twoHosts(t, IPv4, IPv6)
	old := a.Addresses()
	if err := a.ChangeAddresses(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, now := range a.Addresses() {
		if now == old[i] || now == b.Addresses()[i] {
			t.Errorf("the address was %s and is %s", old[i], now)
		}
		if !comesToReach(t, b, now) || !comesToReach(t, a, n.Gateways[i]) {
			t.Errorf("%s is no address that works", now)
		}
		if reaches(t, b, old[i]) {
			t.Errorf("%s is still there", old[i])
		}
	}
	if got := output(t, a, "getent", "ahostsv4", "host-a"); !strings.HasPrefix(got, a.Address().String()) {
		t.Errorf("the host's own name resolves to %q", got)
	}
	if err := errors.Join(a.Stop(), a.Boot(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !comesToReach(t, b, a.Address()) {
		t.Error("the new address is gone after a start")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
