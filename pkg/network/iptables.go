package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/coreos/go-iptables/iptables"
	"github.com/google/nftables"
)

// iptablesChain is a chain that flannel makes with iptables and the rule that
// leads to it.
type iptablesChain struct {
	table, chain, parent, comment string
}

var (
	masqueradeChain = iptablesChain{"nat", "FLANNEL-POSTRTG", "POSTROUTING", "flanneld masq"}
	forwardChain    = iptablesChain{"filter", "FLANNEL-FWD", "FORWARD", "flanneld forward"}
	iptablesChains  = [...]iptablesChain{masqueradeChain, forwardChain}
)

// iptablesFamily is one of iptables and ip6tables.
type iptablesFamily struct {
	name     string
	family   nftables.TableFamily
	protocol iptables.Protocol
}

var iptablesFamilies = [...]iptablesFamily{
	{"ipv4", nftables.TableFamilyIPv4, iptables.ProtocolIPv4},
	{"ipv6", nftables.TableFamilyIPv6, iptables.ProtocolIPv6},
}

// removeIPTables removes flannel's chains if they are there. flannel's own
// clean-up leaves the rules that lead to its chains and so the chains.
func removeIPTables(ctx context.Context, chains []iptablesChain) error {
	var all []error
	for _, f := range iptablesFamilies {
		for _, c := range chains {
			if ctx.Err() != nil || !legacyInUse(f.name, c.table) && !chainExists(f.family, c.chain) {
				continue
			}
			if err := c.remove(f.protocol); err != nil {
				all = append(all, fmt.Errorf("remove the chain %s (%s): %w", c.chain, f.name, err))
			}
		}
	}
	return errors.Join(all...)
}

func (c iptablesChain) remove(protocol iptables.Protocol) error {
	ipt, err := iptables.NewWithProtocol(protocol)
	if err != nil {
		return err
	}
	if exists, err := ipt.ChainExists(c.table, c.chain); err != nil || !exists {
		return err
	}
	return errors.Join(ipt.DeleteIfExists(c.table, c.parent, c.jump()...), ipt.ClearAndDeleteChain(c.table, c.chain))
}

// jump is the rule in the parent that leads to the chain, as flannel writes it.
func (c iptablesChain) jump() []string {
	return []string{"-m", "comment", "--comment", c.comment, "-j", c.chain}
}

// acceptForwarding adds what flannel would with iptables, so that it is found
// and removed like flannel's.
func acceptForwarding(cidrs []netip.Prefix) error {
	for _, p := range cidrs {
		protocol := iptables.ProtocolIPv4
		if p.Addr().Is6() {
			protocol = iptables.ProtocolIPv6
		}
		ipt, err := iptables.NewWithProtocol(protocol)
		if err != nil {
			return err
		}
		if exists, err := ipt.ChainExists(forwardChain.table, forwardChain.chain); err != nil {
			return err
		} else if !exists {
			if err := ipt.NewChain(forwardChain.table, forwardChain.chain); err != nil {
				return err
			}
		}
		for _, direction := range []string{"-s", "-d"} {
			if err := ipt.AppendUnique(forwardChain.table, forwardChain.chain, direction, p.String(),
				"-m", "comment", "--comment", forwardChain.comment, "-j", "ACCEPT"); err != nil {
				return err
			}
		}
		if err := ipt.AppendUnique(forwardChain.table, forwardChain.parent, forwardChain.jump()...); err != nil {
			return err
		}
	}
	return nil
}
