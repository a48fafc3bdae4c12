package config

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	kubeletapis "k8s.io/kubelet/pkg/apis"
)

// FlannelBackends are the pod networks to choose from.
func FlannelBackends() []string {
	return []string{"vxlan", "host-gw", "wireguard-native", "none"}
}

// EgressSelectorModes say what servers reach through the tunnels of agents.
func EgressSelectorModes() []string {
	return []string{"agent", "pod", "cluster", "disabled"}
}

// Profiles are the ways to trade memory for processor time, see pkg/memory.
func Profiles() []string {
	return []string{"auto", "tiny", "small", "default"}
}

// Snapshotters are the ones that the embedded containerd has.
func Snapshotters() []string {
	return []string{"overlayfs", "native"}
}

// DisableNames are the packaged parts that --disable leaves out.
func DisableNames() []string { return []string{"coredns"} }

// absentParts are k3s' packaged parts that Skiff has not: leaving them out is
// what happens anyway, so a configuration of k3s that does it stays valid.
func absentParts() []string {
	return []string{"traefik", "servicelb", "metrics-server", "local-storage", "runtimes"}
}

// packagedPart judges one name of --disable.
func packagedPart(name string) error {
	switch name {
	case "flannel":
		return invalidf("set flannel-backend to none", "the pod network is not switched off by disable")
	case "kube-proxy", "scheduler", "agent":
		return invalidf("set disable-"+name+" to true", "%s is not switched off by disable", name)
	case "dns":
		return invalidf(`write "coredns"`, "the DNS part has another name")
	}
	err := oneOf(append(DisableNames(), absentParts()...))(name)
	if bad, ok := err.(*invalid); ok {
		bad.message = fmt.Sprintf("there is no packaged part %q", name)
	}
	return err
}

// nodeLabel holds a label against Kubernetes' syntax and against what the
// kubelet and the NodeRestriction admission plugin let a node say of itself.
func nodeLabel(text string) error {
	key, labelValue, ok := strings.Cut(text, "=")
	if !ok {
		return invalidf("write it like disk=ssd", "%q is not KEY=VALUE", text)
	}
	if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		return invalidf("write a key like disk or example.com/disk", "%q is not a label's key: %s", key, msgs[0])
	}
	if msgs := validation.IsValidLabelValue(labelValue); len(msgs) > 0 {
		return invalidf("use up to 63 letters, digits, '-', '_' and '.'", "%q is not a label's value: %s", labelValue, msgs[0])
	}
	if reservedLabel(key) && !kubeletapis.IsKubeletLabel(key) {
		return invalidf(fmt.Sprintf("use a key of your own domain or below node.kubernetes.io/, or set it once the node is there: skiff kubectl label node NAME %s", text),
			"a node must not give itself the label %s, which Kubernetes reserves", key)
	}
	return nil
}

func reservedLabel(key string) bool {
	namespace, _, ok := strings.Cut(key, "/")
	if !ok {
		return false
	}
	for _, domain := range []string{"kubernetes.io", "k8s.io"} {
		if namespace == domain || strings.HasSuffix(namespace, "."+domain) {
			return true
		}
	}
	return false
}

// nodeTaint takes KEY=VALUE:EFFECT and KEY:EFFECT.
func nodeTaint(text string) error {
	const fix = "write it like dedicated=db:NoSchedule or dedicated:NoSchedule"
	at := strings.LastIndex(text, ":")
	if at < 0 {
		return invalidf(fix, "%q has no effect", text)
	}
	switch effect := text[at+1:]; effect {
	case "NoSchedule", "PreferNoSchedule", "NoExecute":
	default:
		return invalidf("choose one of NoSchedule, PreferNoSchedule, NoExecute", "%q is not a taint's effect", effect)
	}
	key, taintValue, _ := strings.Cut(text[:at], "=")
	if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		return invalidf(fix, "%q is not a taint's key: %s", key, msgs[0])
	}
	if msgs := validation.IsValidLabelValue(taintValue); len(msgs) > 0 {
		return invalidf(fix, "%q is not a taint's value: %s", taintValue, msgs[0])
	}
	return nil
}
