package registries

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// header is the first line of files that Skiff may replace and remove.
const header = "# Written by Skiff from registries.yaml: edit that one.\n"

// render makes the hosts.toml of each registry, by the name of its directory.
func (d *document) render(fallback bool) map[string]string {
	registries := map[string]bool{}
	for name := range d.mirrors {
		registries[name] = true
	}
	for name := range d.configs {
		registries[name] = true
	}
	files := map[string]string{}
	for name := range registries {
		// A directory of its own keeps containerd from looking at the wildcard's.
		endpoints, ok := d.mirrors[name]
		if !ok {
			endpoints = d.mirrors[wildcard]
		}
		files[directory(name)] = d.hosts(name, endpoints, fallback)
	}
	return files
}

// directory is where containerd looks for a registry.
func directory(registry string) string {
	if registry == wildcard {
		return "_default"
	}
	if i := strings.LastIndex(registry, ":"); i > 0 {
		return registry[:i] + "_" + registry[i+1:] + "_"
	}
	return registry
}

// hosts is one hosts.toml. containerd asks the hosts from top to bottom, and
// the server, which is the registry itself unless it is named, last. There is
// no way to have no server, so without a fallback the last endpoint is it.
func (d *document) hosts(registry string, endpoints []endpoint, fallback bool) string {
	var b strings.Builder
	b.WriteString(header)
	if fallback || len(endpoints) == 0 {
		d.of(registry).write(&b, "")
	} else {
		last := endpoints[len(endpoints)-1]
		endpoints = endpoints[:len(endpoints)-1]
		fmt.Fprintf(&b, "server = %s\n", quote(last.url))
		last.write(&b)
		d.of(last.host).write(&b, "")
	}
	for _, e := range endpoints {
		table := "host." + quote(e.url)
		fmt.Fprintf(&b, "\n[%s]\n", table)
		e.write(&b)
		d.of(e.host).write(&b, table+".")
	}
	return b.String()
}

func (e endpoint) write(b *strings.Builder) {
	b.WriteString(`capabilities = ["pull", "resolve"]` + "\n")
	if e.root {
		b.WriteString("override_path = true\n")
	}
}

// of is how to talk to a host. It may be written with the port that its scheme
// has anyway, and Docker's registry under both of its names.
func (d *document) of(host string) access {
	names := []string{host}
	if name, port, err := net.SplitHostPort(host); err != nil {
		names = append(names, host+":443", host+":80")
	} else if port == "443" || port == "80" {
		names = append(names, name)
	}
	switch host {
	case "docker.io":
		names = append(names, "registry-1.docker.io")
	case "registry-1.docker.io":
		names = append(names, "docker.io")
	}
	for _, name := range append(names, wildcard) {
		if a, ok := d.configs[name]; ok {
			return a
		}
	}
	return access{}
}

// write ends with the table of headers: what follows needs a table of its own.
func (a access) write(b *strings.Builder, table string) {
	if a.ca != "" {
		fmt.Fprintf(b, "ca = %s\n", quote(a.ca))
	}
	switch {
	case a.key != "":
		fmt.Fprintf(b, "client = [[%s, %s]]\n", quote(a.cert), quote(a.key))
	case a.cert != "":
		fmt.Fprintf(b, "client = %s\n", quote(a.cert))
	}
	if a.skipVerify {
		b.WriteString("skip_verify = true\n")
	}
	if a.authorization != "" {
		fmt.Fprintf(b, "[%sheader]\nAuthorization = %s\n", table, quote(a.authorization))
	}
}

// quote makes a TOML string of text without control characters.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
