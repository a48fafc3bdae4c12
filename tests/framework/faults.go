package framework

import (
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// Partition cuts the host off in a direction, from everybody and for all that
// its link carries, until Heal. The machine, and with it the test and the
// nameserver, is on the other side.
func (h *Host) Partition(t testing.TB, d nshost.Direction) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) { f.Cut |= d })
}

// PartitionFrom cuts the host off from another one of its cluster, in a
// direction as this host sees it, until Heal. Both reach everybody else.
func (h *Host) PartitionFrom(t testing.TB, other *Host, d nshost.Direction) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) {
		from := map[*nshost.Host]nshost.Direction{other.Host: d}
		for o, was := range f.From {
			from[o] |= was
		}
		f.From = from
	})
}

// Heal undoes Partition and PartitionFrom of this host.
func (h *Host) Heal(t testing.TB) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) { f.Cut, f.From = 0, nil })
}

// Loss loses a share of packets, 0 to 1, in each direction. 0 ends it.
func (h *Host) Loss(t testing.TB, share float64) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) { f.Loss = share })
}

// Rate bounds what passes in each direction, in bits per second. 0 ends it.
func (h *Host) Rate(t testing.TB, bits uint64) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) { f.Rate = bits })
}

// NoInbound says whether the host is as one behind address translation: only
// it can begin connections. Connections that are there already go on.
func (h *Host) NoInbound(t testing.TB, on bool) {
	t.Helper()
	h.change(t, func(f *nshost.Faults) { f.NoInbound = on })
}

// change changes the faults of the host's connection; they outlast Reboot.
func (h *Host) change(t testing.TB, how func(*nshost.Faults)) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	how(&h.faults)
	if err := h.SetFaults(t.Context(), h.faults); err != nil {
		t.Fatal(err)
	}
}

// PowerOff ends everything on the host at once, as a cut of its power does:
// Skiff, all containers, the host's init. Its files stay for Boot.
func (h *Host) PowerOff(t testing.TB) {
	t.Helper()
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
}

// PowerOn starts a host after PowerOff, with its files, addresses and faults,
// and nothing running.
func (h *Host) PowerOn(t testing.TB) {
	t.Helper()
	if err := h.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Reboot is PowerOff and PowerOn.
func (h *Host) Reboot(t testing.TB) {
	t.Helper()
	h.PowerOff(t)
	h.PowerOn(t)
}

// ChangeAddress gives the host other addresses, as a new lease does, and takes
// the old ones away; Address gives the new one.
func (h *Host) ChangeAddress(t testing.TB) {
	t.Helper()
	if err := h.ChangeAddresses(t.Context()); err != nil {
		t.Fatal(err)
	}
}
