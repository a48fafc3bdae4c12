package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Loopback and AddressLabel identify what this package adds to the host, for
// whoever cleans it: `ip address show dev lo label lo:skiff`. The kernel keeps
// labels for IPv4 only.
const (
	Loopback     = "lo"
	AddressLabel = "lo:skiff"
)

// addresses keeps the addresses that are listened on at the loopback interface,
// which every kernel has, and knows which addresses are the host's own.
//
// The pod network's bridge later carries the first pod address too, as /24. The
// kernel keeps the two apart, and either may go while the other stays.
type addresses struct {
	log *logrus.Entry

	mu     sync.Mutex
	wanted []netip.Addr

	// local is refilled on the first question after a change.
	local atomic.Pointer[map[netip.Addr]bool]
}

// want replaces the set of addresses that are kept.
func (a *addresses) want(addrs []netip.Addr) error {
	a.mu.Lock()
	a.wanted = append([]netip.Addr(nil), addrs...)
	a.mu.Unlock()
	return a.ensure()
}

// ensure adds what is missing. Addresses are added, not removed, at the end:
// with the address still there, a client learns at once that nobody listens.
func (a *addresses) ensure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("setting the loopback interface up: %w", err)
		}
	}
	var errs []error
	for _, addr := range a.wanted {
		if err := netlink.AddrAdd(lo, loopbackAddr(addr)); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("adding %s to the loopback interface: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}

// forget removes an address that is no longer listened on.
func (a *addresses) forget(addr netip.Addr) error {
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if err := netlink.AddrDel(lo, loopbackAddr(addr)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("removing %s from the loopback interface: %w", addr, err)
	}
	return nil
}

// loopbackAddr has host scope, so that the kernel never picks the address as
// the source of anything but an answer.
func loopbackAddr(addr netip.Addr) *netlink.Addr {
	n := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	na := &netlink.Addr{IPNet: n, Scope: unix.RT_SCOPE_HOST}
	if addr.Is4() {
		na.Label = AddressLabel
	} else {
		na.Flags = unix.IFA_F_NODAD
	}
	return na
}

// isLocal says whether addr is one of the host's.
func (a *addresses) isLocal(addr netip.Addr) bool {
	local := a.local.Load()
	if local == nil {
		local = a.list()
	}
	return (*local)[addr]
}

func (a *addresses) list() *map[netip.Addr]bool {
	local := map[netip.Addr]bool{}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		a.log.WithError(err).Warn("Listing the host's addresses failed; its own DNS queries may be refused")
		return &local
	}
	for _, one := range list {
		if addr, ok := netip.AddrFromSlice(one.IP); ok {
			local[addr.Unmap()] = true
		}
	}
	a.local.Store(&local)
	return &local
}

// watch follows the kernel's notices until ctx ends, and calls lost when one of
// the wanted addresses may have gone.
func (a *addresses) watch(ctx context.Context, lost func()) error {
	updates, err := subscribe(ctx)
	if err != nil {
		return err
	}
	go func() {
		for {
			for update := range updates {
				a.local.Store(nil)
				addr, _ := netip.AddrFromSlice(update.LinkAddress.IP)
				if !update.NewAddr && a.isWanted(addr.Unmap()) {
					lost()
				}
			}
			if ctx.Err() != nil {
				return
			}
			// The kernel dropped notices that nobody fetched in time.
			a.local.Store(nil)
			if updates, err = subscribe(ctx); err != nil {
				a.log.WithError(err).Error("DNS does not notice any more when its addresses are removed")
				return
			}
			lost()
		}
	}()
	return nil
}

func subscribe(ctx context.Context) (<-chan netlink.AddrUpdate, error) {
	updates := make(chan netlink.AddrUpdate, 16)
	if err := netlink.AddrSubscribe(updates, ctx.Done()); err != nil {
		return nil, fmt.Errorf("following the host's addresses: %w", err)
	}
	return updates, nil
}

func (a *addresses) isWanted(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.wanted {
		if w == addr {
			return true
		}
	}
	return false
}

// bindable says whether DNS could be served at an address, without serving it.
func bindable(ctx context.Context, addr netip.Addr) error {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", address(addr))
	if err != nil {
		return err
	}
	_ = conn.Close() // nothing was sent
	listener, err := lc.Listen(ctx, "tcp", address(addr))
	if err != nil {
		return err
	}
	_ = listener.Close() // nothing was accepted
	return nil
}
