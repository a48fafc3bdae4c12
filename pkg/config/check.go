package config

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/sirupsen/logrus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The functions of this file judge one value at a time; what one setting means
// for another is looked at in validate.go.

func between(low, high int) func(string) error {
	return func(text string) error {
		n, err := parseInt(text)
		if err == nil && (n < low || n > high) {
			err = invalidf(fmt.Sprintf("choose one from %d to %d", low, high), "%d is out of range", n)
		}
		return err
	}
}

func oneOf(values []string) func(string) error {
	return func(text string) error {
		for _, v := range values {
			if v == text {
				return nil
			}
		}
		fix := "choose one of " + strings.Join(values, ", ")
		if near := Suggest(text, values); near != "" {
			fix = fmt.Sprintf("did you mean %q? The choices are %s", near, strings.Join(values, ", "))
		}
		return invalidf(fix, "%q is not known", text)
	}
}

func vmodule(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		pattern, level, ok := strings.Cut(item, "=")
		if _, err := strconv.ParseUint(level, 10, 31); !ok || pattern == "" || err != nil {
			return invalidf("write it like reflector=4,controller*=2", "%q is not PATTERN=LEVEL", item)
		}
	}
	return nil
}

func componentLevel(text string) error {
	name, level, ok := strings.Cut(text, "=")
	if _, err := logrus.ParseLevel(level); !ok || name == "" || err != nil {
		return invalidf("write it like datastore=debug; levels are error, warning, info, debug and trace", "%q is not COMPONENT=LEVEL", text)
	}
	return nil
}

// specified refuses what cannot be an address of a host at all.
func specified(text string) error {
	addr, err := parseAddr(text)
	switch {
	case err != nil:
		return err
	case addr.IsUnspecified():
		return invalidf("name one address", "%s stands for every address", addr)
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return invalidf("name an address of one host", "%s is a multicast or broadcast address", addr)
	}
	return nil
}

// unicast wants an address that other machines can use.
func unicast(text string) error {
	if err := specified(text); err != nil {
		return err
	}
	switch addr, _ := parseAddr(text); {
	case addr.IsLoopback():
		return invalidf("name an address that other machines can reach", "%s is a loopback address", addr)
	case addr.IsLinkLocalUnicast():
		return invalidf("name an address that is routed", "%s is a link-local address, which Kubernetes does not take", addr)
	}
	return nil
}

func dnsName(text string) error {
	if msgs := validation.IsDNS1123Subdomain(text); len(msgs) > 0 {
		return invalidf("use lower-case letters, digits, '-' and '.', at most 253 characters", "%q is not a DNS name", text)
	}
	return nil
}

func certificateName(text string) error {
	if _, err := netip.ParseAddr(text); err == nil {
		return specified(text)
	}
	if dnsName(strings.TrimPrefix(strings.ToLower(text), "*.")) != nil {
		return invalidf("write a host name or an address, without scheme and port", "%q is neither a DNS name nor an IP address", text)
	}
	return nil
}

func nodeName(text string) error {
	if msgs := validation.IsDNS1123Subdomain(text); len(msgs) > 0 {
		return invalidf("set node-name to one made of lower-case letters, digits, '-' and '.'", "%q cannot be a node's name", text)
	}
	return nil
}

func lower(text string) string { return strings.ToLower(text) }

func portRange(text string) error {
	const fix = "write it like 30000-32767"
	r, err := utilnet.ParsePortRange(text)
	switch {
	case err != nil:
		return invalidf(fix, "%q is not a range of ports", text)
	case r.Base < 1:
		return invalidf(fix, "%q does not begin at a port from 1 to 65535", text)
	}
	return nil
}

// interfaceName follows the kernel's dev_valid_name.
func interfaceName(text string) error {
	if text == "." || text == ".." || len(text) > 15 || strings.ContainsAny(text, "/: \t\n") {
		return invalidf("see ip link for the names", "%q cannot be a network interface's name", text)
	}
	return nil
}

func notRoot(text string) error {
	if filepath.Clean(text) == "/" {
		return invalidf("name a directory of Skiff's own, such as /var/lib/skiff", "the root directory cannot be the data directory")
	}
	return nil
}

func existingFile(path string) error {
	if _, err := os.Stat(path); err != nil {
		cause := err
		if p, ok := err.(*os.PathError); ok {
			cause = p.Err
		}
		return invalidf("make it, or leave the setting out", "%s: %v", path, cause)
	}
	return nil
}

func existingGroup(name string) error {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return nil
	}
	if _, err := user.LookupGroup(name); err != nil {
		return invalidf("make it with groupadd, or name another", "there is no group %q on this machine", name)
	}
	return nil
}

func positiveDuration(text string) error {
	d, err := parseDuration(text)
	if err == nil && d <= 0 {
		err = invalidf("write it like 500ms or 1s", "%s is not longer than nothing", text)
	}
	return err
}

func notNegativeDuration(text string) error {
	d, err := parseDuration(text)
	if err == nil && d < 0 {
		err = invalidf("write it like 5m, or 0s", "%s is negative", text)
	}
	return err
}

func cgroupPath(text string) error {
	if !strings.HasPrefix(text, "/") || filepath.Clean(text) != text {
		return invalidf("write it from the root of the hierarchy, like /skiff", "%q is not the path of a cgroup", text)
	}
	return nil
}

func canonicalSocket(text string) string {
	if strings.HasPrefix(text, "/") {
		return "unix://" + text
	}
	return text
}

func unixSocket(text string) error {
	if path, ok := strings.CutPrefix(text, "unix://"); !ok || !filepath.IsAbs(path) {
		return invalidf("write it like unix:///run/containerd/containerd.sock", "%q is not the path of a socket", text)
	}
	return nil
}

var runtimeNames = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

func runtimeName(text string) error {
	if !runtimeNames.MatchString(text) {
		return invalidf("write the name of a runtime of containerd's configuration, like runc", "%q cannot be a runtime's name", text)
	}
	return nil
}

func imageReference(text string) error {
	if _, err := reference.ParseDockerRef(text); err != nil {
		return invalidf("write it like registry.k8s.io/pause:3.10", "%q is not an image name", text)
	}
	return nil
}
