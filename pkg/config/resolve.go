package config

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// decode turns texts into the typed fields of Server, defaults included.
func (l *loader) decode() {
	l.server.Layout = layout.Default()
	l.broken = map[string]bool{}
	for i := range l.flags {
		f := &l.flags[i]
		if f.field == nil {
			continue
		}
		values, set := l.values[f.Name]
		if !set {
			for _, text := range splitDefault(*f) {
				// A default that does not decode is caught by this
				// package's tests, which load an empty configuration.
				if err := decodeOne(f.field(&l.server), text); err != nil {
					l.fail(f, value{}, err)
				}
			}
			continue
		}
		for _, v := range values {
			text, err := prepare(*f, v)
			if err == nil {
				err = decodeOne(f.field(&l.server), text)
			}
			if err != nil {
				l.fail(f, v, err)
			}
		}
	}
}

func splitDefault(f Flag) []string {
	if f.Default == "" {
		return nil
	}
	if f.Kind() == KindList {
		return strings.Split(f.Default, ",")
	}
	return []string{f.Default}
}

// prepare brings one text into its final form and judges it.
func prepare(f Flag, v value) (text string, err error) {
	text = v.text
	if f.Path && !filepath.IsAbs(text) {
		if v.origin.Source != FromFlag {
			return "", invalidf("write it with its whole path", "%q is a relative path, and relative to what is not known here", text)
		}
		text = absolute(text)
	}
	if f.Path {
		text = filepath.Clean(text)
	}
	if f.canon != nil {
		text = f.canon(text)
	}
	if f.Values != nil {
		err = oneOf(f.Values)(text)
	}
	if err == nil && f.check != nil {
		err = f.check(text)
	}
	return text, err
}

func (l *loader) fail(f *Flag, v value, err error) {
	l.broken[f.Name] = true
	p := Problem{Origin: v.origin, Key: f.Name, Message: err.Error()}
	if v.path != "" {
		p.Key = v.path
	}
	if f.Secret {
		p.Message = "the value is not valid"
	}
	var bad *invalid
	if errors.As(err, &bad) && (!f.Secret || f.Discreet) {
		p.Message, p.Fix = bad.message, bad.fix
	}
	l.report(p)
}

// isSet says whether anybody set the flag.
func (l *loader) isSet(name string) bool { _, set := l.values[name]; return set }

// derive fills in the defaults that depend on other settings.
func (l *loader) derive() {
	s := &l.server
	s.Datastore.Kind = DatastoreSQLite
	switch {
	case s.Datastore.Endpoint != "":
		s.Datastore.Kind = DatastoreExternal
	case s.Datastore.ClusterInit || s.Join.Server != "":
		s.Datastore.Kind = DatastoreEtcd
	}
	if !l.isSet("advertise-port") {
		s.Listener.AdvertisePort = s.Listener.Port
	}
	l.deriveSnapshots()
	l.deriveCIDRs()
	if v6 := slices.ContainsFunc(s.Network.ClusterCIDRs, isIPv6Prefix); v6 && !l.isSet("bind-address") {
		s.Listener.BindAddress = netip.IPv6Unspecified()
	}
	if c := s.Network.ClusterCIDRs; len(c) > 0 && isIPv6Prefix(c[0]) && !l.isSet("link-local-dns") {
		s.Network.LinkLocalDNS = netip.MustParseAddr("fd00:42:ffff::53")
	}
	if !l.isSet("cluster-dns") && !l.broken["service-cidr"] {
		for _, cidr := range s.Network.ServiceCIDRs {
			s.Network.ClusterDNS = append(s.Network.ClusterDNS, nth(cidr, 10))
		}
	}
	if !l.isSet("node-name") {
		l.deriveNodeName()
	}
}

// deriveCIDRs makes the default CIDRs fit the address families that were asked
// for: those of the other CIDR, else IPv6 when that is all the node has.
func (l *loader) deriveCIDRs() {
	n := &l.server.Network
	var v6 []bool
	switch {
	case l.isSet("cluster-cidr") && l.isSet("service-cidr"):
		return
	case l.isSet("cluster-cidr"):
		v6 = families(n.ClusterCIDRs, isIPv6Prefix)
	case l.isSet("service-cidr"):
		v6 = families(n.ServiceCIDRs, isIPv6Prefix)
	case len(l.server.Node.IPs) > 0 && !slices.Contains(families(l.server.Node.IPs, netip.Addr.Is6), false):
		v6 = []bool{true}
	}
	if len(v6) == 0 || repeated(v6) {
		return
	}
	var cluster, service []netip.Prefix
	for _, is6 := range v6 {
		if is6 {
			cluster = append(cluster, netip.MustParsePrefix("fd00:42::/56"))
			service = append(service, netip.MustParsePrefix("fd00:43::/112"))
		} else {
			cluster = append(cluster, netip.MustParsePrefix("10.42.0.0/16"))
			service = append(service, netip.MustParsePrefix("10.43.0.0/16"))
		}
	}
	if !l.isSet("cluster-cidr") {
		n.ClusterCIDRs = cluster
	}
	if !l.isSet("service-cidr") {
		n.ServiceCIDRs = service
	}
}

func (l *loader) deriveNodeName() {
	host, err := l.hostname()
	if err != nil {
		l.report(Problem{Key: "node-name", Message: "the host's name is not known: " + err.Error(), Fix: "set node-name"})
		return
	}
	name := lower(host)
	if err := nodeName(name); err != nil {
		l.fail(l.byName["node-name"], value{}, err)
		return
	}
	l.server.Node.Name = name
}

func isIPv6Prefix(p netip.Prefix) bool { return p.Addr().Is6() }

func families[T any](list []T, is6 func(T) bool) []bool {
	var out []bool
	for _, v := range list {
		out = append(out, is6(v))
	}
	return out
}

// repeated says whether an address family is there more than once.
func repeated(v6 []bool) bool { return len(v6) > 2 || len(v6) == 2 && v6[0] == v6[1] }

// nth is the address at an offset into a prefix.
func nth(p netip.Prefix, offset int) netip.Addr {
	addr := p.Addr()
	for range offset {
		addr = addr.Next()
	}
	return addr
}
