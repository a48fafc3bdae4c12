package nshost

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the name of every link that this package makes on the
// machine; the run's id follows, so that runs side by side know their own.
const linkPrefix = "skt"

// Family is a version of the internet protocol.
type Family int

// The families of a network's addresses.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Network is a bridge on the machine with subnets of its own, one of each
// family. The machine has the first address of them, and hosts get the
// following ones. It is safe for concurrent use.
type Network struct {
	Name     string
	Subnets  []netip.Prefix
	Gateways []netip.Addr // the machine's, in the order of Subnets

	mu   sync.Mutex
	used int
}

// NewNetwork makes a bridge. name has at most 15 characters and begins with
// what LinkName gives. The first family is that of the hosts' first addresses;
// without any it is IPv4 alone.
func NewNetwork(name string, families ...Family) (*Network, error) {
	if len(families) == 0 {
		families = []Family{IPv4}
	}
	unlock, err := Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	subnets, err := freeSubnets(families)
	if err != nil {
		return nil, err
	}
	n := networkOf(name, subnets)
	attrs := netlink.NewLinkAttrs()
	// A bridge without an address that was given to it takes those of its
	// ports, which come and go, and hosts would not find their gateway.
	attrs.Name, attrs.HardwareAddr = name, hardwareAddress(name)
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("adding bridge %s: %w", name, err)
	}
	var errs []error
	for i, s := range subnets {
		errs = append(errs, addAddress(bridge, netip.PrefixFrom(n.Gateways[i], s.Bits())))
	}
	if err := errors.Join(append(errs, netlink.LinkSetUp(bridge))...); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up bridge %s: %w", name, err), n.Close())
	}
	return n, nil
}

// NetworkOf finds the network of a host that another process made, for more
// hosts on it.
func NetworkOf(base, id string) (*Network, error) {
	one, err := loadSpec(filepath.Join(base, id))
	if err != nil {
		return nil, fmt.Errorf("finding the network of host %s: %w", id, err)
	}
	var subnets []netip.Prefix
	for _, a := range one.Addresses {
		subnets = append(subnets, a.Masked())
	}
	n := networkOf(one.Bridge, subnets)
	files, err := filepath.Glob(filepath.Join(base, "*", filepath.Base(one.file())))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		s, err := loadSpec(filepath.Dir(f))
		if err == nil && s.Bridge == n.Name {
			n.used = max(n.used, n.place(s.Addresses[0].Addr()))
		}
	}
	return n, nil
}

// place is how far behind the machine's an address is.
func (n *Network) place(a netip.Addr) int {
	places := 0
	for g := n.Gateway(); g != a && n.Subnets[0].Contains(g); g = g.Next() {
		places++
	}
	return places
}

func networkOf(name string, subnets []netip.Prefix) *Network {
	n := &Network{Name: name, Subnets: subnets}
	for _, s := range subnets {
		n.Gateways = append(n.Gateways, s.Addr().Next())
	}
	return n
}

// Gateway is the machine's address of the first family.
func (n *Network) Gateway() netip.Addr { return n.Gateways[0] }

// LinkName is the beginning of the names of a run's links.
func LinkName(run string) string { return linkPrefix + run }

// Close removes the bridge. Hosts on it lose their connection.
func (n *Network) Close() error { return removeLink(n.Name) }

// RemoveNetwork removes a bridge that another process made.
func RemoveNetwork(name string) error { return removeLink(name) }

// next gives addresses that no host on the network has had, one of each family.
func (n *Network) next() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used++
	var all []netip.Prefix
	for i, s := range n.Subnets {
		a := n.Gateways[i]
		for range n.used {
			a = a.Next()
		}
		all = append(all, netip.PrefixFrom(a, s.Bits()))
	}
	return all
}

// freeSubnets finds a /24 below 10.89.0.0/16 and a /64 below fd89::/48, of
// those families that are asked for, which no address of the machine is in.
func freeSubnets(families []Family) ([]netip.Prefix, error) {
	addresses, err := netlink.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	taken := func(s netip.Prefix) bool {
		return slices.ContainsFunc(addresses, func(a netlink.Addr) bool {
			ip, _ := netip.AddrFromSlice(a.IP)
			return s.Contains(ip.Unmap())
		})
	}
	for number := byte(1); number < 255; number++ {
		subnets := map[Family]netip.Prefix{
			IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 89, number, 0}), 24),
			IPv6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x89, 7: number}), 64),
		}
		if taken(subnets[IPv4]) || taken(subnets[IPv6]) {
			continue
		}
		var chosen []netip.Prefix
		for _, f := range families {
			chosen = append(chosen, subnets[f])
		}
		return chosen, nil
	}
	return nil, errors.New("no free subnet in 10.89.0.0/16: remove left-over bridges called " + linkPrefix + "*")
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	// A link goes by itself, too, with the last process of the host at its end.
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing link %s: %w", name, err)
	}
	return nil
}

// plug makes the veth pair: one end on the bridge, the other as eth0 in the
// network namespace of pid.
func plug(s spec, pid int) error {
	bridge, err := netlink.LinkByName(s.Bridge)
	if err != nil {
		return fmt.Errorf("finding bridge %s: %w", s.Bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = s.Link, bridge.Attrs().Index
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid),
		PeerHardwareAddr: hardwareAddress(s.ID),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("adding link %s: %w", s.Link, err)
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		return fmt.Errorf("setting %s up: %w", s.Link, err)
	}
	return nil
}

// addAddress gives a link an address that can be used at once: nobody else on
// these links could have it, so there is nothing to ask around for.
func addAddress(link netlink.Link, p netip.Prefix) error {
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Lock keeps the processes that make hosts on this machine from taking the
// same subnet or clearing away what another has just made. The lock is on a
// directory that exists everywhere, so that no file stays behind.
func Lock() (unlock func(), err error) {
	f, err := os.Open("/var/tmp")
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// OwnLinks lists the links on the machine that belong to a run.
func OwnLinks(run string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	var names []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, LinkName(run)) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}
