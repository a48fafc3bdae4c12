package config

import (
	"slices"
	"strings"
)

// Foreign is a flag of k3s that Skiff knows of and has not.
type Foreign struct {
	Name    string
	Aliases []string
	Bool    bool
	// Harmless is the value that asks for what Skiff does anyway: with it the
	// flag is accepted and without effect, so that a k3s configuration stays
	// valid. Empty when there is none.
	Harmless string
	// Instead names what to do; empty: it is not supported yet.
	Instead string
}

// problem is what to tell the user who set the flag.
func (f Foreign) problem(origin Origin) Problem {
	p := Problem{Origin: origin, Key: f.Name, Message: "this flag of k3s is not supported yet", Fix: "leave it out"}
	if f.Instead != "" {
		p.Message, p.Fix = "this flag of k3s does not exist here", f.Instead
	}
	return p
}

// ForeignFlags lists them all.
func ForeignFlags() []Foreign {
	return slices.Concat(foreignSwitches(), foreignValues(), foreignSnapshots(), []Foreign{
		{Name: "no-flannel", Bool: true, Harmless: "false", Instead: "set flannel-backend to none"},
		{Name: "no-deploy", Instead: "use disable"},
	})
}

func foreignSwitches() []Foreign {
	// The value that each of these has in Skiff.
	have := map[string][]string{
		"false": {
			"disable-apiserver", "disable-controller-manager", "disable-etcd",
			"docker", "embedded-registry", "prefer-bundled-bin", "rootless",
			"supervisor-metrics",
		},
		"true": {
			"disable-helm-controller", "disable-network-policy", "etcd-snapshot-compress", "tls-san-security",
		},
	}
	var all []Foreign
	for _, harmless := range []string{"false", "true"} {
		for _, name := range have[harmless] {
			all = append(all, Foreign{Name: name, Bool: true, Harmless: harmless})
		}
	}
	return all
}

func foreignValues() []Foreign {
	all := []Foreign{}
	for _, name := range []string{
		"airgap-extra-registry", "cluster-secret",
		"default-local-storage-path",
		"helm-controller-arg", "helm-job-image", "kube-cloud-controller-manager-arg",
		"servicelb-namespace", "system-default-registry", "vpn-auth", "vpn-auth-file",
	} {
		all = append(all, Foreign{Name: name})
	}
	return all
}

// foreignSnapshots are those of snapshots, which here are of every datastore and
// so have no etcd in their names.
func foreignSnapshots() []Foreign {
	all := []Foreign{
		{Name: "etcd-disable-snapshots", Bool: true, Harmless: "false", Instead: "use disable-snapshots"},
		{Name: "etcd-snapshot-reconcile-interval", Instead: "leave it out: what shows snapshots in the cluster follows at once"},
		{Name: "etcd-s3-proxy", Instead: "set the environment variable HTTPS_PROXY"},
	}
	for _, f := range snapshotFlags() {
		if strings.HasPrefix(f.Name, "snapshot-") || strings.HasPrefix(f.Name, "s3") {
			foreign := Foreign{Name: "etcd-" + f.Name, Bool: f.Kind() == KindBool, Instead: "use " + f.Name}
			if foreign.Bool {
				foreign.Harmless = "false"
			}
			all = append(all, foreign)
		}
	}
	return all
}

// env lists the variables of the flag.
func (f Foreign) env() []string {
	return []string{envName(f.Name)}
}

// harmless says whether the flag asks for what Skiff does anyway.
func (f Foreign) harmless(texts []string) bool {
	if f.Harmless == "" {
		return false
	}
	for _, text := range texts {
		if f.Bool {
			on, err := parseBool(text)
			if err != nil || on != (f.Harmless == "true") {
				return false
			}
		} else if !strings.EqualFold(text, f.Harmless) {
			return false
		}
	}
	return true
}
