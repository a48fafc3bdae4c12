package hostaddr

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

const (
	dnsPort = 53
	// maxNameservers is what the C library and the kubelet read.
	maxNameservers = 3
)

// ResolverConfig says where the host's name servers are found.
type ResolverConfig struct {
	Layout layout.Layout
	// Path is the user's choice, --resolv-conf; empty: the host's own.
	Path string
	// Own are the addresses at which our DNS answers: upstreams they are not.
	Own []netip.Addr

	root string // of all paths, in tests
}

// Resolvers are the name servers behind our DNS. There may be none: an offline
// device has none, and a public one in their place would send a household's
// look-ups to a stranger and let every look-up wait on an island.
type Resolvers struct {
	// Nameservers are for our DNS, which runs on the host's own network.
	Nameservers []netip.AddrPort
	Search      []string
	Options     []string
	// Path is a resolv.conf for pods that use the host's name servers,
	// for the kubelet's resolvConf. It never names a loopback address.
	Path string
	// Warning says what is unusual, or nothing.
	Warning string
}

// Equal says whether nothing changed.
func (r Resolvers) Equal(o Resolvers) bool {
	return slices.Equal(r.Nameservers, o.Nameservers) && slices.Equal(r.Search, o.Search) &&
		slices.Equal(r.Options, o.Options) && r.Path == o.Path && r.Warning == o.Warning
}

const hostResolvConf = "/etc/resolv.conf"

// behindStubs are the files in which programs that put themselves on a
// loopback address into resolv.conf keep the servers that they ask.
var behindStubs = []string{
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// FindResolvers reads the name servers of this host. A stub on a loopback
// address, such as systemd-resolved's, is replaced by the servers behind it:
// pods cannot reach it, and asking it from our DNS could go round in circles.
// Where no file is fit for pods, one is written below the layout's AgentEtc.
func FindResolvers(cfg ResolverConfig) (Resolvers, error) {
	if cfg.Path != "" {
		file, err := readResolvConf(cfg.file(cfg.Path))
		if err != nil {
			return Resolvers{}, fmt.Errorf("resolv-conf: %w", err)
		}
		return cfg.resolve(cfg.Path, file, true)
	}
	path, file := hostResolvConf, resolvConf{}
	var err error
	if file, err = readResolvConf(cfg.file(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Resolvers{}, err
	}
	if len(cfg.reachable(file.nameservers)) == 0 && len(file.nameservers) > 0 {
		for _, behind := range behindStubs {
			other, err := readResolvConf(cfg.file(behind))
			if err == nil && len(cfg.reachable(other.nameservers)) > 0 {
				path, file = behind, other
				break
			}
		}
	}
	return cfg.resolve(path, file, false)
}

func (cfg ResolverConfig) file(path string) string { return filepath.Join(cfg.root, path) }

// resolve makes Resolvers of a file. A file that the user named may hold a
// loopback address, as of a resolver of his own, for our DNS but not for pods.
func (cfg ResolverConfig) resolve(path string, file resolvConf, chosen bool) (Resolvers, error) {
	reachable := cfg.reachable(file.nameservers)
	servers := reachable
	if chosen {
		servers = cfg.notOwn(file.nameservers)
	}
	r := Resolvers{Search: file.search, Options: file.options, Path: path}
	for _, s := range servers {
		r.Nameservers = append(r.Nameservers, netip.AddrPortFrom(s, dnsPort))
	}
	if len(servers) == 0 {
		r.Warning = fmt.Sprintf("%s names no server that could be asked: names outside of the cluster will not resolve; name a file with servers by --resolv-conf", path)
	}
	if len(reachable) > 0 && len(reachable) == len(file.nameservers) {
		return r, nil
	}
	r.Path = cfg.Layout.AgentEtc("resolv.conf")
	file.nameservers = reachable
	if err := os.MkdirAll(filepath.Dir(r.Path), 0o755); err != nil {
		return Resolvers{}, fmt.Errorf("making a resolv.conf for pods: %w", err)
	}
	if _, err := atomicfile.WriteIfChanged(r.Path, file.render(), 0o644); err != nil {
		return Resolvers{}, fmt.Errorf("making a resolv.conf for pods: %w", err)
	}
	return r, nil
}

func (cfg ResolverConfig) notOwn(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return slices.Contains(cfg.Own, a) })
}

// reachable are those that a pod can ask. Zero is another way to say loopback.
func (cfg ResolverConfig) reachable(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(cfg.notOwn(list), func(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() })
}

// resolvConf is a file as resolv.conf(5) describes it.
type resolvConf struct {
	nameservers []netip.Addr
	search      []string
	options     []string
}

func readResolvConf(path string) (resolvConf, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return resolvConf{}, err
	}
	return parseResolvConf(string(data)), nil
}

// parseResolvConf skips what it does not understand, as the C library does.
func parseResolvConf(content string) resolvConf {
	var c resolvConf
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0][0] == '#' || fields[0][0] == ';' {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if err == nil && len(c.nameservers) < maxNameservers {
				c.nameservers = append(c.nameservers, addr.Unmap())
			}
		case "search", "domain": // the last one counts
			c.search = slices.DeleteFunc(fields[1:], func(s string) bool { return s == "." })
		case "options":
			c.options = append(c.options, fields[1:]...)
		}
	}
	return c
}

func (c resolvConf) render() []byte {
	var b strings.Builder
	b.WriteString("# Written by Skiff: the host's name servers without those that pods cannot reach.\n")
	for _, s := range c.nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.search, " "))
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.options, " "))
	}
	return []byte(b.String())
}
