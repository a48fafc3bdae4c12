package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/flannel-io/flannel/pkg/backend"
)

// externalInterface finds the link that other nodes are behind and what they
// send to.
func externalInterface(cfg Config, v4, v6 bool) (*backend.ExternalInterface, error) {
	iface, addrs, err := findInterface(cfg)
	if err != nil {
		return nil, err
	}
	ext := &backend.ExternalInterface{Iface: iface, IfaceName: iface.Name}
	if v4 {
		if ext.IfaceAddr, err = ownAddress(iface, addrs, cfg.NodeIPs, netip.Addr.Is4); err != nil {
			return nil, fmt.Errorf("%w (IPv4)", err)
		}
		ext.ExtAddr = ext.IfaceAddr
	}
	if v6 {
		if ext.IfaceV6Addr, err = ownAddress(iface, addrs, cfg.NodeIPs, netip.Addr.Is6); err != nil {
			return nil, fmt.Errorf("%w (IPv6)", err)
		}
		ext.ExtV6Addr = ext.IfaceV6Addr
	}
	if !cfg.UseExternalIPs {
		return ext, nil
	}
	for _, a := range cfg.ExternalIPs {
		if a.Is4() && v4 {
			ext.ExtAddr = a.AsSlice()
		}
		if a.Is6() && v6 {
			ext.ExtV6Addr = a.AsSlice()
		}
	}
	return ext, nil
}

// findInterface returns the configured link, else the one with the node's first
// address, and its addresses.
func findInterface(cfg Config) (*net.Interface, []netip.Addr, error) {
	wanted := cfg.NodeIPs
	if a, err := netip.ParseAddr(cfg.Iface); err == nil {
		wanted = []netip.Addr{a}
	} else if cfg.Iface != "" {
		iface, err := net.InterfaceByName(cfg.Iface)
		if err != nil {
			return nil, nil, fmt.Errorf("--flannel-iface=%s: %w", cfg.Iface, err)
		}
		addrs, err := addresses(iface)
		return iface, addrs, err
	}
	if len(wanted) == 0 {
		return nil, nil, errors.New("the node's address is not known: set --node-ip or --flannel-iface")
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for i := range ifaces {
		addrs, err := addresses(&ifaces[i])
		if err != nil {
			return nil, nil, err
		}
		for _, a := range addrs {
			if a == wanted[0] {
				return &ifaces[i], addrs, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("no network interface has the address %s: set --flannel-iface to the link between nodes", wanted[0])
}

// addresses lists those that other hosts can use.
func addresses(iface *net.Interface) ([]netip.Addr, error) {
	all, err := iface.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", iface.Name, err)
	}
	var usable []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		usable = append(usable, p.Addr().Unmap())
	}
	return usable, nil
}

// ownAddress prefers the node's address over others of the link.
func ownAddress(iface *net.Interface, addrs, preferred []netip.Addr, family func(netip.Addr) bool) (net.IP, error) {
	var found netip.Addr
	for _, a := range addrs {
		if !family(a) {
			continue
		}
		for _, p := range preferred {
			if a == p {
				return a.AsSlice(), nil
			}
		}
		if !found.IsValid() {
			found = a
		}
	}
	if !found.IsValid() {
		return nil, fmt.Errorf("the network interface %s has no usable address", iface.Name)
	}
	return found.AsSlice(), nil
}
