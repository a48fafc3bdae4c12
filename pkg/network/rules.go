package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	flip "github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	flanneliptables "github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	flannelnftables "github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
)

const (
	// iptablesResync is how often flannel looks whether its iptables rules are
	// still there, in seconds. Each look starts some twenty processes, and only
	// a firewall that flushes foreign rules makes it necessary.
	iptablesResync = 300
	// never is for nftables, where the kernel tells of changes.
	never = 1 << 30
	// nftBound is how long writing the rules may take; it takes some 50 ms.
	nftBound = 5 * time.Second
	// rulesRetry is the time between attempts to write the rules.
	rulesRetry = 10 * time.Second
)

// keepRules lets pods speak to the world and to other nodes, and keeps it so
// until ctx ends.
func (c *Component) keepRules(ctx context.Context, plan *plan, cidrs []netip.Prefix) {
	if !c.cfg.NFTables {
		c.keepIPTables(ctx, plan, cidrs)
		return
	}
	want := plan.expectedRules(c.cfg.MasqueradeIPv6)
	for {
		dropped := forwardingDropped()
		err := c.applyNFTables(ctx, plan, cidrs, dropped)
		if err == nil {
			err = waitForChange(ctx, want, dropped)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.log.Info("another program changed the packet filter; the pod network's rules are written again")
			continue
		}
		c.log.WithError(err).WithField("again", rulesRetry).Error("pods may not reach addresses outside of the cluster")
		if !pause(ctx, rulesRetry) {
			return
		}
	}
}

// keepIPTables has flannel look after the rules.
func (c *Component) keepIPTables(ctx context.Context, plan *plan, cidrs []netip.Prefix) {
	if err := removeNFTables(); err != nil {
		c.log.WithError(err).Warn("nftables rules of an earlier configuration are still there")
	}
	if err := c.applyRules(ctx, plan, cidrs, &flanneliptables.IPTablesManager{}, iptablesResync); err != nil {
		c.log.WithError(err).Error("pods may not reach addresses outside of the cluster")
	}
	<-ctx.Done()
}

// applyNFTables writes the rules with nftables. An accepting rule there is no
// help against a FORWARD chain of iptables that drops, as Docker and ufw have
// it: that one needs a rule of its own.
func (c *Component) applyNFTables(ctx context.Context, plan *plan, cidrs []netip.Prefix, dropped bool) error {
	// Half of the rules because Skiff is stopping would be worse than waiting
	// some milliseconds.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nftBound)
	defer cancel()
	old := iptablesChains[:]
	if dropped {
		old = slices.DeleteFunc(slices.Clone(old), func(ch iptablesChain) bool { return ch == forwardChain })
	}
	if err := removeIPTables(ctx, old); err != nil {
		c.log.WithError(err).Warn("iptables rules of an earlier configuration are still there")
	}
	if dropped {
		if err := acceptForwarding(c.cfg.ClusterCIDRs); err != nil {
			c.log.WithError(err).Warn("the FORWARD chain of iptables may drop what pods send: allow the cluster's addresses there")
		}
	}
	return c.applyRules(ctx, plan, cidrs, &flannelnftables.NFTablesManager{}, never)
}

// applyRules writes masquerading and forwarding rules.
func (c *Component) applyRules(ctx context.Context, plan *plan, cidrs []netip.Prefix, m trafficmngr.TrafficManager, resync int) error {
	if err := m.Init(ctx); err != nil {
		return fmt.Errorf("prepare packet filter rules: %w", err)
	}
	masquerade6 := plan.conf.IPv6Network
	if !c.cfg.MasqueradeIPv6 {
		masquerade6 = flip.IP6Net{}
	}
	// Naming the present state as the former one spares flannel the search for
	// rules to delete: chains are emptied anyway.
	own := newLease(cidrs)
	err := m.SetupAndEnsureMasqRules(ctx,
		plan.conf.Network, own.Subnet, plan.conf.Network,
		masquerade6, own.IPv6Subnet, masquerade6,
		own, resync, false)
	if err != nil {
		return fmt.Errorf("write masquerading rules: %w", err)
	}
	m.SetupAndEnsureForwardRules(ctx, plan.conf.Network, plan.conf.IPv6Network, resync)
	return nil
}

// removeRules removes whatever rules there are.
func removeRules(ctx context.Context) error {
	return errors.Join(removeNFTables(), removeIPTables(ctx, iptablesChains[:]))
}

// legacyTables lists the tables of the old iptables, by family.
var legacyTables = map[string]string{
	"ipv4": "/proc/net/ip_tables_names",
	"ipv6": "/proc/net/ip6_tables_names",
}

// legacyInUse says whether the old iptables has this table. Looking there spares
// starting iptables, which would make the table.
func legacyInUse(family, table string) bool {
	data, err := os.ReadFile(legacyTables[family])
	return err == nil && slices.Contains(strings.Fields(string(data)), table)
}
