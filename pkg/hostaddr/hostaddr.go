// Package hostaddr answers by which name and addresses this host is a node,
// and which name servers stand behind it, and says when that changes. It reads
// the kernel's tables and resolv.conf files and sends nothing to anyone. The
// wiring packages import it.
package hostaddr

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Family is an address family.
type Family int

// The two families, in the kernel's numbers.
const (
	IPv4 Family = unix.AF_INET
	IPv6 Family = unix.AF_INET6
)

func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func familyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// FamiliesOf is the families of networks in their order: those that a node
// needs an address of, the main one first.
func FamiliesOf(networks []netip.Prefix) []Family {
	var list []Family
	for _, n := range networks {
		if f := familyOf(n.Addr()); !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

// Config says how the node's addresses are chosen.
type Config struct {
	// NodeIPs are the user's choice, --node-ip; empty: see Choose.
	NodeIPs []netip.Addr
	// Families that the node needs an address of, the main one first; none:
	// that of the first of Toward, else IPv4. With NodeIPs they do not count.
	Families []Family
	// Toward are addresses of servers: the node's address is the one from
	// which they are reached. Nothing is sent to them.
	Toward []netip.Addr
}

// Addresses are a node's.
type Addresses struct {
	// Node has an address for each family, the main one first.
	Node []netip.Addr
	// Interface has the first of them.
	Interface string
	// All has those of Node and every global address of the host, sorted, but
	// for those of bridges and tunnels that container networks made.
	All []netip.Addr
}

// Equal says whether nothing changed.
func (a Addresses) Equal(b Addresses) bool {
	return a.Interface == b.Interface && slices.Equal(a.Node, b.Node) && slices.Equal(a.All, b.All)
}

// ErrNoAddress is wrapped by Choose's error when the host has no address yet
// that would do, which a cable or a DHCP server may change. See Await.
var ErrNoAddress = errors.New("no usable address")

// Choose picks the node's addresses: the user's, else for each family that on
// the way to the servers, else that of the interface with the default route, else the first global address of the
// first interface that is no part of a container network. A host without a
// default route, such as a device on an island, is a node too.
func Choose(cfg Config) (Addresses, error) {
	t, err := readTable()
	if err != nil {
		return Addresses{}, err
	}
	t.readSources(cfg.Toward)
	return t.choose(cfg)
}

// table is what the kernel knows, in an order that does not change by itself.
type table struct {
	links  map[int]netlink.LinkAttrs
	addrs  []address
	routes []defaultRoute // the best first
	// sources are the host's addresses on the way to servers.
	sources []netip.Addr
}

type address struct {
	netip.Addr
	link      int
	secondary bool // or temporary, deprecated: not the first choice
	global    bool
}

type defaultRoute struct {
	family Family
	link   int
	source netip.Addr // may be invalid
	metric int
}

func readTable() (*table, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	t := &table{links: map[int]netlink.LinkAttrs{}}
	for _, l := range links {
		t.links[l.Attrs().Index] = *l.Attrs()
	}
	for _, family := range []Family{IPv4, IPv6} {
		addrs, err := netlink.AddrList(nil, int(family))
		if err != nil {
			return nil, fmt.Errorf("listing the %s addresses: %w", family, err)
		}
		for _, a := range addrs {
			t.addAddress(a)
		}
		routes, err := netlink.RouteListFiltered(int(family), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("listing the %s routes: %w", family, err)
		}
		for _, r := range routes {
			t.addRoute(family, r)
		}
	}
	slices.SortStableFunc(t.addrs, func(a, b address) int { return cmp.Compare(a.link, b.link) })
	slices.SortStableFunc(t.routes, func(a, b defaultRoute) int { return cmp.Compare(a.metric, b.metric) })
	return t, nil
}

// readSources asks the kernel which way to the servers it would take. A server
// on this host says nothing, nor does one that no route leads to.
func (t *table) readSources(servers []netip.Addr) {
	for _, server := range servers {
		routes, err := netlink.RouteGet(server.Unmap().AsSlice())
		if err != nil || len(routes) == 0 {
			continue
		}
		if source, ok := netip.AddrFromSlice(routes[0].Src); ok {
			t.sources = append(t.sources, source.Unmap())
		}
	}
}

func (t *table) addAddress(a netlink.Addr) {
	addr, ok := netip.AddrFromSlice(a.IP)
	if !ok || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
		return
	}
	addr = addr.Unmap()
	t.addrs = append(t.addrs, address{
		Addr:      addr,
		link:      a.LinkIndex,
		secondary: a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED) != 0, // temporary is secondary
		global:    a.Scope == unix.RT_SCOPE_UNIVERSE && addr.IsGlobalUnicast(),
	})
}

func (t *table) addRoute(family Family, r netlink.Route) {
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones != 0 {
			return
		}
	}
	if r.Type != unix.RTN_UNICAST {
		return
	}
	link := r.LinkIndex
	if link == 0 && len(r.MultiPath) > 0 {
		link = r.MultiPath[0].LinkIndex
	}
	source, _ := netip.AddrFromSlice(r.Src)
	t.routes = append(t.routes, defaultRoute{family: family, link: link, source: source.Unmap(), metric: r.Priority})
}

func (t *table) choose(cfg Config) (Addresses, error) {
	result := Addresses{All: t.all()}
	if len(cfg.NodeIPs) > 0 {
		for _, ip := range cfg.NodeIPs {
			if _, ok := t.linkOf(ip.Unmap()); !ok {
				return Addresses{}, fmt.Errorf("node-ip: %s is no address of this host, which has %v: %w", ip, result.All, ErrNoAddress)
			}
			result.Node = append(result.Node, ip.Unmap())
		}
	} else {
		families := cfg.Families
		if len(families) == 0 && len(cfg.Toward) > 0 {
			families = []Family{familyOf(cfg.Toward[0])}
		}
		if len(families) == 0 {
			families = []Family{IPv4}
		}
		for _, f := range families {
			addr, ok := t.best(f)
			if !ok {
				return Addresses{}, fmt.Errorf("this host has no global %s address, only %v; give an interface one (ip addr add … dev …), or connect it: %w", f, result.All, ErrNoAddress)
			}
			result.Node = append(result.Node, addr)
		}
	}
	index, _ := t.linkOf(result.Node[0])
	result.Interface = t.links[index].Name
	result.All = sorted(append(result.All, result.Node...))
	return result, nil
}

// best is a family's address on the way to the servers, else by the default
// route, else the first there is.
func (t *table) best(f Family) (netip.Addr, bool) {
	for _, source := range t.sources {
		if _, ok := t.first(f, func(a address) bool { return a.Addr == source && t.usable(a.link) }); ok {
			return source, true
		}
	}
	for _, r := range t.routes {
		if r.family != f {
			continue
		}
		if link, ok := t.linkOf(r.source); r.source.IsValid() && ok && link == r.link {
			return r.source, true
		}
		if addr, ok := t.first(f, func(a address) bool { return a.link == r.link }); ok {
			return addr, true
		}
	}
	if addr, ok := t.first(f, func(a address) bool { return t.usable(a.link) && t.connected(a.link) }); ok {
		return addr, true
	}
	return t.first(f, func(a address) bool { return t.usable(a.link) })
}

// first is the first global address that is wanted, a secondary one only if
// there is no other.
func (t *table) first(f Family, want func(address) bool) (found netip.Addr, ok bool) {
	for _, a := range t.addrs {
		if familyOf(a.Addr) != f || !a.global || !want(a) {
			continue
		}
		if !a.secondary {
			return a.Addr, true
		}
		if !ok {
			found, ok = a.Addr, true
		}
	}
	return found, ok
}

func (t *table) all() []netip.Addr {
	var list []netip.Addr
	for _, a := range t.addrs {
		if a.global && t.usable(a.link) {
			list = append(list, a.Addr)
		}
	}
	return sorted(list)
}

func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func (t *table) linkOf(addr netip.Addr) (int, bool) {
	for _, a := range t.addrs {
		if a.Addr == addr {
			return a.link, true
		}
	}
	return 0, false
}

// dockerBridge is the name of a network that a Docker user made. Other names
// with br- are people's own: br-lan is a router's main interface.
var dockerBridge = regexp.MustCompile(`^br-[0-9a-f]{12}$`)

// containerLinks begin the names of interfaces that container networks make.
var containerLinks = []string{
	"cni", "flannel", "veth", "docker", "virbr", "podman", "nerdctl", "lxcbr", "lxdbr",
	"cali", "cilium", "lxc_", "kube-", "tunl", "weave", "vxlan",
}

func (t *table) usable(index int) bool {
	link, ok := t.links[index]
	if !ok || link.Flags&net.FlagUp == 0 || link.Flags&net.FlagLoopback != 0 {
		return false
	}
	return !dockerBridge.MatchString(link.Name) && !slices.ContainsFunc(containerLinks, func(prefix string) bool { return strings.HasPrefix(link.Name, prefix) })
}

func (t *table) connected(index int) bool {
	state := t.links[index].OperState
	return state == netlink.OperUp || state == netlink.OperUnknown
}

// InterfaceOf is the name of the interface that has an address.
func InterfaceOf(addr netip.Addr) (string, error) {
	t, err := readTable()
	if err != nil {
		return "", err
	}
	index, ok := t.linkOf(addr.Unmap())
	if !ok {
		return "", fmt.Errorf("no interface of this host has the address %s, only %v are there", addr, t.all())
	}
	return t.links[index].Name, nil
}
