package dns

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/coredns/caddy"
)

// port is where DNS is spoken; pods cannot be told another.
const port = 53

// corefile is the input of a Caddy instance. It names the server it is for, so
// that directives find what they need without variables of the process.
type corefile struct {
	text  string
	owner *server
}

var _ caddy.Input = (*corefile)(nil)

func (c *corefile) Body() []byte     { return []byte(c.text) }
func (c *corefile) Path() string     { return c.owner.path }
func (*corefile) ServerType() string { return "dns" }

// settings is everything that a Corefile is made of.
type settings struct {
	domain    string
	listen    []netip.Addr
	upstreams []netip.AddrPort
	custom    *custom // nil: none
}

// Sizes of the cache for external names, in answers of up to about 1 KiB each.
// Cluster names are not cached: they are answered from memory anyway, and a new
// Service is then seen at once instead of after the time-to-live of its absence.
const (
	cachedAnswers = 4096
	cachedDenials = 1024
)

// forwardOptions: in the order of the host's own list, as its resolver does;
// a bound on what hangs; and with all name servers known to be down a failure
// at once. Failed name servers are probed until they answer, no others.
const forwardOptions = `{
        policy sequential
        max_concurrent 1000
        health_check 2s
        failfast_all_unhealthy_upstreams
    }`

// errorOptions keep an unreachable name server from filling the log.
const errorOptions = `{
        consolidate 5m ".* i/o timeout$" warning show_first
        consolidate 1m ".*" warning show_first
    }`

// render writes the Corefile.
func (s settings) render() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	fmt.Fprintf(&b, ".:%d {\n", port)
	line(directiveGuard)
	line("bind %s", joined(s.listen))
	if !s.custom.has("errors") {
		line("errors %s", errorOptions)
	}
	if !s.custom.has("cache") {
		line("cache 30 {\n        success %d\n        denial %d\n        disable success %[3]s\n        disable denial %[3]s\n    }",
			cachedAnswers, cachedDenials, s.domain)
	}
	if !s.custom.has("loadbalance") {
		line("loadbalance")
	}
	b.WriteString(s.custom.directives()) // before ours: of several forwards, the first that matches answers
	line("%s %s in-addr.arpa ip6.arpa {\n        pods insecure\n        ttl 5\n        fallthrough in-addr.arpa ip6.arpa\n    }", directiveCluster, s.domain)
	line(directiveNodes)
	if len(s.upstreams) > 0 {
		line("forward . %s %s", joined(s.upstreams), forwardOptions)
	}
	line(directiveUnresolved)
	b.WriteString("}\n")
	b.WriteString(s.custom.serverBlocks(s.listen))
	return b.String()
}

func joined[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, one := range list {
		out[i] = one.String()
	}
	return strings.Join(out, " ")
}

// usable leaves out name servers that would ask us again, repeated ones, and
// those at link-local IPv6 addresses, whose interface the forward plugin drops.
// More than 15 are more than that plugin takes.
func usable(upstreams []netip.AddrPort, own []netip.Addr) []netip.AddrPort {
	const most = 15
	var out []netip.AddrPort
	seen := map[netip.AddrPort]bool{}
	for _, own := range own {
		seen[netip.AddrPortFrom(own, port)] = true
	}
	for _, upstream := range upstreams {
		upstream = netip.AddrPortFrom(upstream.Addr().Unmap(), upstream.Port())
		if upstream.IsValid() && upstream.Addr().Zone() == "" && !seen[upstream] && len(out) < most {
			seen[upstream] = true
			out = append(out, upstream)
		}
	}
	return out
}

// address is host:port of a listener.
func address(addr netip.Addr) string {
	return netip.AddrPortFrom(addr, port).String()
}
