package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureBridge makes the bridge that the CNI plugin would make with the first
// pod, so that the node has its address in the pod network from the start.
func ensureBridge(cidrs []netip.Prefix, mtu int) error {
	link, err := netlink.LinkByName(bridgeName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = bridgeName, mtu
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("create it: %w", err)
		}
		link, err = netlink.LinkByName(bridgeName)
	}
	if err != nil {
		return fmt.Errorf("look for it: %w", err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("a network interface of this name is there already and is a %s: remove it with `ip link delete %s`", link.Type(), bridgeName)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set its MTU to %d: %w", mtu, err)
	}
	// Set to what it is, it no longer follows the lowest of its ports', and
	// pods need not learn their gateway's anew.
	if err := netlink.LinkSetHardwareAddr(link, link.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("fix its hardware address: %w", err)
	}
	if err := setAddresses(link, cidrs); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch it on: %w", err)
	}
	return nil
}

// setAddresses gives the bridge the gateways' addresses and takes away those of
// an earlier cluster.
func setAddresses(link netlink.Link, cidrs []netip.Prefix) error {
	wanted := map[string]*net.IPNet{}
	for i, a := range gateways(cidrs) {
		n := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(cidrs[i].Bits(), a.BitLen())}
		wanted[n.String()] = n
	}
	present, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	for _, a := range present {
		if wanted[a.IPNet.String()] != nil {
			delete(wanted, a.IPNet.String())
			continue
		}
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove the old address %s: %w", a.IPNet, err)
		}
	}
	for name, n := range wanted {
		addr := &netlink.Addr{IPNet: n}
		if n.IP.To4() == nil {
			// Without this, nothing can listen on it before the bridge has a
			// port: address detection waits for a carrier.
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the address %s: %w", name, err)
		}
	}
	return nil
}

// flannelLinks are the devices that flannel's back ends make.
func flannelLinks() []string {
	return []string{"flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6"}
}

// removeLinks deletes those that are there.
func removeLinks(names []string) error {
	var all []error
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			all = append(all, fmt.Errorf("delete the network interface %s: %w", name, err))
		}
	}
	return errors.Join(all...)
}

// ports are the host's ends of pods' links.
func ports(bridge string) ([]string, error) {
	br, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the bridge %s: %w", bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var found []string
	for _, l := range links {
		if l.Type() == "veth" && l.Attrs().MasterIndex == br.Attrs().Index {
			found = append(found, l.Attrs().Name)
		}
	}
	return found, nil
}

// newLease is this node's share in flannel's terms.
func newLease(cidrs []netip.Prefix) *lease.Lease {
	l := &lease.Lease{}
	for _, p := range cidrs {
		n := ipNet(p)
		if p.Addr().Is4() {
			l.EnableIPv4, l.Subnet = true, ip.FromIPNet(n)
		} else {
			l.EnableIPv6, l.IPv6Subnet = true, ip.FromIP6Net(n)
		}
	}
	return l
}

// writeSubnetFile tells flannel's own CNI plugin, which a user's CNI
// configuration may name, what it has to know.
func writeSubnetFile(cfg Config, cidrs []netip.Prefix, mtu int) error {
	p, err := newPlan(cfg)
	if err != nil {
		return err
	}
	l := newLease(cidrs)
	if err := subnet.WriteSubnetFile(subnetFile, p.conf, true, l.Subnet, l.IPv6Subnet, mtu); err != nil {
		return fmt.Errorf("write %s for flannel's CNI plugin: %w", subnetFile, err)
	}
	return nil
}
