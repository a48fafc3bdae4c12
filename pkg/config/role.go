package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Role is a set of the commands that a setting is for.
type Role int

// The roles that a machine can have.
const (
	ForServer Role = 1 << iota
	ForAgent
)

// String is how the commands are called.
func (r Role) String() string {
	switch r {
	case ForServer:
		return "server"
	case ForAgent:
		return "agent"
	}
	return "server and agent"
}

// otherRole finds a setting that exists, but not for this role.
func otherRole(role Role, name string) *Flag {
	for _, f := range Flags() {
		if f.Name == name && f.For&role == 0 {
			return &f
		}
	}
	return nil
}

// Secret is a text that does not show itself when it is printed or encoded.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// GoString hides the secret from %#v, too.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText hides the secret in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// agent is the part of the settings that agents have.
func (s Server) agent() Agent {
	return Agent{
		Layout:         s.Layout,
		Logging:        s.Logging,
		Join:           s.Join,
		LoadBalancer:   s.LoadBalancer,
		FlannelIface:   s.Network.FlannelIface,
		FlannelConf:    s.Network.FlannelConf,
		FlannelCNIConf: s.Network.FlannelCNIConf,
		EnablePprof:    s.EnablePprof,
		Profile:        s.Profile,
		Node:           s.Node,
	}
}

// FeatureGates is what all components' feature-gates arguments say together.
func (a Agent) FeatureGates() map[string]bool { return Server{Node: a.Node}.FeatureGates() }

// SecretFlags names the flags whose values must not stay in the process list,
// in every form in which the command line may have them.
func SecretFlags() []string {
	var names []string
	for _, f := range Flags() {
		if f.Secret {
			names = append(append(names, f.Name), f.Aliases...)
		}
	}
	return names
}

// SecretVariables names the environment variables that programs that Skiff
// starts must not inherit.
func SecretVariables() []string {
	var names []string
	for _, f := range Flags() {
		if f.Secret {
			names = append(names, f.Env()...)
		}
	}
	return names
}

// serverURL judges the address of a server to join.
func serverURL(text string) error {
	const fix = "write it like https://192.0.2.10:6443"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "":
		return invalidf(fix, "%q is not the URL of a server", text)
	case u.Scheme != "https":
		return invalidf(fix, "%q does not begin with https://, and servers speak nothing else", text)
	case u.Path != "", u.RawQuery != "", u.Fragment != "":
		return invalidf(fix, "%q has more than a host and a port", text)
	case u.User != nil:
		return invalidf("give the secret with --token-file or SKIFF_TOKEN", "there are credentials in the URL")
	}
	if port := u.Port(); port != "" {
		return between(1, 65535)(port)
	}
	return nil
}

// canonicalURL gives every URL a port and none a slash at its end.
func canonicalURL(text string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme == "https" && u.Hostname() != "" && strings.Trim(u.Path, "/") == "" {
		u.Path = ""
		if u.Port() == "" {
			u.Host += ":6443"
		}
		return u.String()
	}
	return text
}

var tokenText = regexp.MustCompile(`^[!-~]{1,512}$`)

// joinToken catches what no token can be; what it means is read by pkg/token.
func joinToken(text string) error {
	if !tokenText.MatchString(text) {
		return invalidf("copy it from /var/lib/skiff/server/token of a server", "it is not a token")
	}
	return nil
}

// validateJoin looks at what an agent needs to find its cluster.
func (l *loader) validateJoin() {
	for _, name := range []string{"token", "agent-token"} {
		if l.isSet(name) && l.isSet(name+"-file") {
			l.conflict(name+"-file", "there is "+name+", too", "keep one of "+name+" and "+name+"-file")
		}
	}
	if l.in.Role == ForAgent && !l.isSet("server") && l.understood("server") {
		l.report(Problem{Key: "server", Message: "an agent has to know a server", Fix: "set server to a URL like https://192.0.2.10:6443"})
	}
	if l.in.Role == ForServer && l.isSet("server") && l.server.Datastore.ClusterInit {
		l.conflict("server", "there is cluster-init, too", "keep cluster-init on the first server and server on the others")
	}
}
