package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Names that flannel's nftables manager uses.
const (
	nftTable4      = "flannel-ipv4"
	nftTable6      = "flannel-ipv6"
	nftForward     = "forward"
	nftMasquerade  = "postrtg"
	forwardRules   = 2
	masqueradeNumb = 6
)

// expected is how many rules a chain has when nobody touched it.
type expected struct {
	family nftables.TableFamily
	table  string
	chain  string
	rules  int
}

func (p *plan) expectedRules(masquerade6 bool) []expected {
	var all []expected
	if p.conf.EnableIPv4 {
		all = append(all,
			expected{nftables.TableFamilyIPv4, nftTable4, nftMasquerade, masqueradeNumb},
			expected{nftables.TableFamilyIPv4, nftTable4, nftForward, forwardRules})
	}
	if p.conf.EnableIPv6 {
		all = append(all, expected{nftables.TableFamilyIPv6, nftTable6, nftForward, forwardRules})
	}
	if p.conf.EnableIPv6 && masquerade6 {
		all = append(all, expected{nftables.TableFamilyIPv6, nftTable6, nftMasquerade, masqueradeNumb})
	}
	return all
}

// intact says whether all rules are there.
func intact(want []expected) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	for _, w := range want {
		table := &nftables.Table{Family: w.family, Name: w.table}
		rules, err := conn.GetRules(table, &nftables.Chain{Name: w.chain, Table: table})
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list nftables rules: %w", err)
		}
		if len(rules) != w.rules {
			return false, nil
		}
	}
	return true, nil
}

// changeSettle is how long to wait after a change before looking: a firewall
// that is being reloaded makes many.
const changeSettle = time.Second

// waitForChange returns nil when rules are missing or when forwarding is no
// longer what it was. It sleeps until the kernel tells of a change.
func waitForChange(ctx context.Context, want []expected, dropped bool) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	changes := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- reportChanges(conn, changes) }()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	for {
		if ok, err := intact(want); err != nil || !ok || forwardingDropped() != dropped {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- nil
			return err
		case <-changes:
		}
		if !pause(ctx, changeSettle) {
			return ctx.Err()
		}
	}
}

// reportChanges pokes changes when a table, chain or rule was deleted and when a
// chain was made or got another policy.
func reportChanges(conn *netlink.Conn, changes chan struct{}) error {
	for {
		messages, err := conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			// Messages were lost: one of them may have been ours.
			poke(changes)
			continue
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF):
			return nil
		case err != nil:
			return fmt.Errorf("watch nftables: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type & 0xff {
			case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
				poke(changes)
			}
		}
	}
}

// removeNFTables deletes flannel's tables.
func removeNFTables() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return nil // a kernel without nftables
	}
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	found := false
	for _, t := range tables {
		if t.Name == nftTable4 || t.Name == nftTable6 {
			conn.DelTable(t)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete flannel's nftables tables: %w", err)
	}
	return nil
}

// chainExists looks for a chain by netlink, which also shows those that
// iptables makes by way of nftables.
func chainExists(family nftables.TableFamily, name string) bool {
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return false
	}
	for _, c := range chains {
		if c.Name == name {
			return true
		}
	}
	return false
}

// forwardingDropped says whether the FORWARD chain of iptables drops what it
// does not know. That of the old iptables can't be asked cheaply; where that is
// in use, it is taken for one that does.
func forwardingDropped() bool {
	if legacyInUse("ipv4", forwardChain.table) {
		return true
	}
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false
	}
	for _, c := range chains {
		if c.Table.Name == forwardChain.table && c.Name == forwardChain.parent && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			return true
		}
	}
	return false
}
