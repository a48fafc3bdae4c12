package nshost

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Direction is the way that packets take, seen from a host.
type Direction int

// The directions; Both is the two together.
const (
	Incoming Direction = 1 << iota
	Outgoing
	Both = Incoming | Outgoing
)

// Faults are what is wrong with a host's connection. The zero value is a
// connection without faults. All kinds hold for all that the host's eth0
// carries, packets of pods among it, and add up.
type Faults struct {
	// Cut loses everything of a direction.
	Cut Direction
	// From loses what goes to or comes from hosts on the same network.
	From map[*Host]Direction
	// Loss is the share of packets, 0 to 1, that are lost in each direction.
	Loss float64
	// Rate bounds what passes in each direction, in bits per second. 0 is no bound.
	Rate uint64
	// NoInbound loses what would begin a connection to the host, as network
	// address translation in front of it does.
	NoInbound bool
}

// SetFaults replaces the faults of the running host's connection. They last
// until they are replaced, also over a Stop and a Boot.
func (h *Host) SetFaults(ctx context.Context, f Faults) error {
	h.mu.Lock()
	h.faults = f
	h.mu.Unlock()
	return h.applyFaults(ctx)
}

// applyFaults writes them into the host's own network namespace and to its
// port of the bridge, so that they go when the host goes.
func (h *Host) applyFaults(ctx context.Context) error {
	h.mu.Lock()
	f := h.faults
	h.mu.Unlock()
	rules := Cmd{Args: []string{"nft", "-f", "-"}, Stdin: strings.NewReader(f.ruleset())}
	if err := h.Run(ctx, rules); err != nil {
		return fmt.Errorf("setting the faults of host %s: %w", h.spec.ID, err)
	}
	return h.limit(ctx, f.Rate)
}

// faultTables begins the names of the nftables tables of faults.
const faultTables = "skifftest"

// ruleset replaces the tables in one transaction. Lost packets vanish behind
// the sender's back: a drop on the way out would be reported to the program
// that sends, so they go to the loopback link instead, which takes no packets
// for other hosts' hardware addresses.
func (f Faults) ruleset() string {
	var b strings.Builder
	for _, family := range []string{"netdev", "inet"} {
		fmt.Fprintf(&b, "table %s %s {}\ndelete table %[1]s %[2]s\n", family, faultTables)
	}
	in, out := f.chain(Incoming, "saddr", "drop"), f.chain(Outgoing, "daddr", `fwd to "lo"`)
	if len(in)+len(out) > 0 {
		fmt.Fprintf(&b, "table netdev %s {\n", faultTables)
		fmt.Fprintf(&b, "chain in { type filter hook ingress device \"eth0\" priority -500\n%s}\n", strings.Join(in, ""))
		fmt.Fprintf(&b, "chain out { type filter hook egress device \"eth0\" priority -500\n%s}\n", strings.Join(out, ""))
		b.WriteString("}\n")
	}
	if f.NoInbound {
		fmt.Fprintf(&b, "table inet %s {\nchain in { type filter hook prerouting priority mangle\n", faultTables)
		b.WriteString("iifname \"eth0\" ct state new drop\n}\n}\n")
	}
	return b.String()
}

func (f Faults) chain(d Direction, address, verdict string) []string {
	var rules []string
	if f.Cut&d != 0 {
		rules = append(rules, verdict+"\n")
	}
	for other, cut := range f.From {
		if cut&d != 0 {
			rules = append(rules, fmt.Sprintf("ether %s %s %s\n", address, hardwareAddress(other.ID()), verdict))
		}
	}
	slices.Sort(rules)
	if f.Loss > 0 {
		rules = append(rules, fmt.Sprintf("numgen random mod 10000 < %d %s\n", int(f.Loss*10000), verdict))
	}
	return rules
}

// limit puts a token bucket at both ends of the host's link.
func (h *Host) limit(ctx context.Context, rate uint64) error {
	if err := h.Run(ctx, Cmd{Args: []string{"sh", "-ec", bucket("eth0", rate)}}); err != nil {
		return fmt.Errorf("limiting what host %s sends: %w", h.spec.ID, err)
	}
	out, err := exec.CommandContext(ctx, "sh", "-ec", bucket(h.spec.Link, rate)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("limiting what host %s gets: %w\n%s", h.spec.ID, err, out)
	}
	return nil
}

// bucket is a script that gives a link a token bucket or takes it away. The
// burst is as large as the largest packet on a veth pair.
func bucket(link string, rate uint64) string {
	if rate == 0 {
		return fmt.Sprintf("if tc qdisc show dev %s root | grep -q tbf; then tc qdisc del dev %[1]s root; fi", link)
	}
	return fmt.Sprintf("tc qdisc replace dev %s root tbf rate %dbit burst 64kb latency 200ms", link, rate)
}
