package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var argNames = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]*$`)

// canonicalArg brings an argument of a component into the form NAME=VALUE:
// leading dashes go, and a bare name is a switch that is turned on.
func canonicalArg(text string) string {
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "-")
	if text != "" && !strings.Contains(text, "=") {
		text += "=true"
	}
	return text
}

// componentArg judges one argument for the component of the named flag.
func componentArg(flag string) func(string) error {
	owned := ownedArgs(flag)
	return func(text string) error {
		name, argValue, _ := strings.Cut(text, "=")
		if !argNames.MatchString(name) {
			return invalidf("write it like v=2 or feature-gates=Name=true", "%q is not NAME=VALUE", text)
		}
		if ours, ok := owned[name]; ok && ours == "" {
			return invalidf("leave it out", "%s is decided by Skiff, because the servers of a cluster depend on it", name)
		} else if ok {
			return invalidf("set "+ours+" instead", "%s concerns more than this component", name)
		}
		if name == "feature-gates" {
			return featureGates(argValue)
		}
		return nil
	}
}

// ownedArgs are arguments that more than one part of Skiff has to know, each
// with the setting that tells them all.
func ownedArgs(flag string) map[string]string {
	switch flag {
	case "kube-apiserver-arg":
		return map[string]string{
			"secure-port": "https-listen-port", "bind-address": "bind-address", "advertise-address": "advertise-address",
			"service-cluster-ip-range": "service-cidr", "service-node-port-range": "service-node-port-range",
		}
	case "kube-controller-manager-arg":
		return map[string]string{"cluster-cidr": "cluster-cidr", "service-cluster-ip-range": "service-cidr"}
	case "kubelet-arg":
		return map[string]string{
			"hostname-override": "node-name", "node-ip": "node-ip", "node-labels": "node-label",
			"register-with-taints": "node-taint", "cluster-dns": "cluster-dns", "cluster-domain": "cluster-domain",
			"resolv-conf": "resolv-conf", "cgroup-root": "cgroup-root", "container-runtime-endpoint": "container-runtime-endpoint",
			"image-service-endpoint":            "image-service-endpoint",
			"image-credential-provider-bin-dir": "image-credential-provider-bin-dir",
			"image-credential-provider-config":  "image-credential-provider-config",
			"protect-kernel-defaults":           "protect-kernel-defaults",
		}
	case "etcd-arg":
		return etcdOwned()
	case "kube-proxy-arg":
		return map[string]string{"cluster-cidr": "cluster-cidr", "hostname-override": "node-name"}
	default:
		return nil
	}
}

func featureGates(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		if _, _, err := featureGate(item); err != nil {
			return err
		}
	}
	return nil
}

func featureGate(item string) (string, bool, error) {
	name, text, _ := strings.Cut(strings.TrimSpace(item), "=")
	on, err := strconv.ParseBool(strings.TrimSpace(text))
	if name = strings.TrimSpace(name); name == "" || err != nil {
		return "", false, invalidf("write it like feature-gates=Name=true,Other=false", "%q is not a feature gate", item)
	}
	return name, on, nil
}

// argGroup is the arguments of one component with the flag they came from.
type argGroup struct {
	flag string
	args []string
}

func (s Server) argGroups() []argGroup {
	return []argGroup{
		{"kube-apiserver-arg", s.APIServer.Extra},
		{"kube-controller-manager-arg", s.ControllerManager.Extra},
		{"kube-scheduler-arg", s.Scheduler.Extra},
		{"kubelet-arg", s.Node.Kubelet.Extra},
		{"kube-proxy-arg", s.Node.Proxy.Extra},
	}
}

// etcdOwned are etcd's arguments that say who is a member, where, and trusted by
// what, which Skiff does.
func etcdOwned() map[string]string {
	owned := map[string]string{"data-dir": "data-dir", "logger": "log-level", "log-level": "log-level", "log-outputs": "log", "log-format": "log-format"}
	for _, name := range []string{
		"name", "wal-dir", "listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls",
		"initial-advertise-peer-urls", "advertise-client-urls", "initial-cluster", "initial-cluster-state", "initial-cluster-token",
		"discovery", "discovery-srv", "force-new-cluster", "auto-tls", "peer-auto-tls", "cert-file", "key-file", "client-cert-file",
		"client-key-file", "client-cert-auth", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-client-cert-file",
		"peer-client-key-file", "peer-client-cert-auth", "peer-trusted-ca-file", "config-file", "unsafe-no-fsync", "auth-token",
	} {
		owned[name] = ""
	}
	return owned
}

// FeatureGates is what all components' feature-gates arguments say together.
// There is one set of gates in a process; validation made sure that no two
// components ask for different things.
func (s Server) FeatureGates() map[string]bool {
	gates := map[string]bool{}
	for _, group := range s.argGroups() {
		for _, arg := range group.args {
			name, text, _ := strings.Cut(arg, "=")
			if name != "feature-gates" {
				continue
			}
			for item := range strings.SplitSeq(text, ",") {
				if gate, on, err := featureGate(item); err == nil {
					gates[gate] = on
				}
			}
		}
	}
	return gates
}

// processWide are arguments that set something that exists once per process.
func processWide(name string) bool {
	switch name {
	case "v", "vmodule", "logging-format", "emulated-version", "min-compatibility-version", "emulation-forward-compatible":
		return true
	}
	return false
}

// claims calls yield with every process-wide setting that the arguments of a
// component make: the setting's name for people, what it is set to, and the
// index of the argument.
func (g argGroup) claims(yield func(what, to string, index int)) {
	for i, arg := range g.args {
		name, text, _ := strings.Cut(arg, "=")
		if processWide(name) {
			yield(name, text, i)
		}
		if name != "feature-gates" {
			continue
		}
		for item := range strings.SplitSeq(text, ",") {
			if gate, on, err := featureGate(item); err == nil {
				yield("feature gate "+gate, fmt.Sprint(on), i)
			}
		}
	}
}
