package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/request"
	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

// nodeTTL is how long clients may keep a node's addresses, in seconds.
const nodeTTL = 60

// nodes knows the names of the cluster's nodes, which hosts often can't resolve.
type nodes struct {
	mu     sync.Mutex
	byNode map[string]nodeNames

	table atomic.Pointer[nodeTable] // what queries read
}

type nodeNames struct {
	names []string
	addrs []netip.Addr
}

type nodeTable struct {
	addrs map[string][]netip.Addr // by lower-case name without the last dot
	names map[netip.Addr]string
}

// set takes a node over, or forgets it when n is nil.
func (t *nodes) set(name string, n *corev1.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byNode == nil {
		t.byNode = map[string]nodeNames{}
	}
	if n == nil {
		delete(t.byNode, name)
	} else {
		t.byNode[name] = namesOf(n)
	}
	table := &nodeTable{addrs: map[string][]netip.Addr{}, names: map[netip.Addr]string{}}
	for node, entry := range t.byNode {
		for _, name := range entry.names {
			table.addrs[name] = entry.addrs
		}
		for _, addr := range entry.addrs {
			table.names[addr] = node
		}
	}
	t.table.Store(table)
}

func namesOf(n *corev1.Node) nodeNames {
	entry := nodeNames{names: []string{strings.ToLower(n.Name)}}
	for _, a := range n.Status.Addresses {
		switch a.Type {
		case corev1.NodeInternalIP:
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				entry.addrs = append(entry.addrs, addr)
			}
		case corev1.NodeHostName, corev1.NodeInternalDNS:
			entry.names = append(entry.names, strings.TrimSuffix(strings.ToLower(a.Address), "."))
		}
	}
	return entry
}

// setupNodes adds the names of the nodes to a server block.
func setupNodes(c *caddy.Controller) error {
	owner := ownerOf(c)
	if owner == nil {
		return plugin.Error(directiveNodes, errors.New("no server of Skiff's"))
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		return &nodesHandler{next: next, nodes: owner.nodes}
	})
	return nil
}

type nodesHandler struct {
	next  plugin.Handler
	nodes *nodes
}

// Name implements plugin.Handler.
func (h *nodesHandler) Name() string { return directiveNodes }

// ServeDNS implements plugin.Handler.
func (h *nodesHandler) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	answer, known := h.nodes.answer(state.Name(), state.QName(), state.QType())
	if !known {
		return plugin.NextOrFailure(h.Name(), h.next, ctx, w, r)
	}
	m := new(mdns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	m.Answer = answer
	return mdns.RcodeSuccess, w.WriteMsg(m)
}

// answer gives the records for a normalised name; known with no records means
// that the name exists without such a record.
func (t *nodes) answer(name, qname string, qtype uint16) (records []mdns.RR, known bool) {
	table := t.table.Load()
	if table == nil {
		return nil, false
	}
	header := mdns.RR_Header{Name: qname, Class: mdns.ClassINET, Rrtype: qtype, Ttl: nodeTTL}
	if qtype == mdns.TypePTR {
		addr, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(name))
		if node := table.names[addr]; err == nil && node != "" {
			return []mdns.RR{&mdns.PTR{Hdr: header, Ptr: mdns.Fqdn(node)}}, true
		}
		return nil, false
	}
	addrs, known := table.addrs[strings.TrimSuffix(name, ".")]
	for _, addr := range addrs {
		switch {
		case qtype == mdns.TypeA && addr.Is4():
			records = append(records, &mdns.A{Hdr: header, A: addr.AsSlice()})
		case qtype == mdns.TypeAAAA && addr.Is6():
			records = append(records, &mdns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
		}
	}
	return records, known
}
