package dns

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	// The plugins that a Corefile may name. What opens ports, reads files of
	// the host's or ends the process (prometheus, health, ready, pprof, file,
	// loop, debug, ...) is left out on purpose: this CoreDNS runs as root in
	// the process that is the node.
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/cancel"
	_ "github.com/coredns/coredns/plugin/dns64"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/header"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/local"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// Directives of ours, in addition to CoreDNS' own.
const (
	directiveGuard      = "skiff-guard"      // who may ask
	directiveCluster    = "skiff-cluster"    // the kubernetes plugin on a shared cache
	directiveNodes      = "skiff-nodes"      // names of the cluster's nodes
	directiveUnresolved = "skiff-unresolved" // what nobody else answered
)

// CoreDNS keeps its plugins and their order in variables of the process, which
// have to be set before the first server starts and not be touched afterwards.
// This is the one place that does. The order is CoreDNS' own (plugin.cfg).
func init() {
	plugin.Register(directiveGuard, setupGuard)
	plugin.Register(directiveCluster, setupCluster)
	plugin.Register(directiveNodes, setupNodes)
	plugin.Register(directiveUnresolved, setupUnresolved)
	dnsserver.Directives = []string{
		directiveGuard,
		"metadata", "cancel", "timeouts", "nsid", "bufsize", "bind",
		"errors", "log", "local", "dns64", "any", "loadbalance", "rewrite", "acl",
		"cache", "header", "minimal", "template", "hosts",
		directiveCluster, directiveNodes,
		"forward", "whoami",
		directiveUnresolved,
	}
	dnsserver.Quiet = true
}

// ours says whether only Skiff may write a directive into a Corefile.
func ours(directive string) bool {
	switch directive {
	case directiveGuard, directiveCluster, directiveNodes, directiveUnresolved:
		return true
	}
	return false
}

// ownerOf finds the server that a directive is being set up for. The running
// instances and the one being started carry their *corefile, which names its
// server, so no table of ours is needed. Directives are set up by the goroutine
// that starts or restarts a server, which is the only one that changes Caddy's
// list of instances.
func ownerOf(c *caddy.Controller) *server {
	for _, instance := range caddy.Instances() {
		if in, ok := instance.Caddyfile().(*corefile); ok && in.Path() == c.File() {
			return in.owner
		}
	}
	return nil
}
