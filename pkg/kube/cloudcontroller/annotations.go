package cloudcontroller

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The annotations by which a node's agent tells the controller what the kubelet
// does not know; k3s' are called alike.
const (
	annotationInternalIP  = "skiff.io/internal-ip"
	annotationExternalIP  = "skiff.io/external-ip"
	annotationInternalDNS = "skiff.io/internal-dns"
	annotationExternalDNS = "skiff.io/external-dns"
)

type source struct {
	annotation string
	kind       corev1.NodeAddressType
	ip         bool
}

// sources are in the order in which a node lists its addresses.
func sources() []source {
	return []source{
		{annotationInternalIP, corev1.NodeInternalIP, true},
		{annotationExternalIP, corev1.NodeExternalIP, true},
		{annotationInternalDNS, corev1.NodeInternalDNS, false},
		{annotationExternalDNS, corev1.NodeExternalDNS, false},
	}
}

// Addresses are all of a node's. They are told to the controller only if
// External or one of the DNS lists is given, or the user told the kubelet to
// Wait for it; the kubelet knows the others.
type Addresses struct {
	Wait                     bool
	Internal, External       []netip.Addr
	InternalDNS, ExternalDNS []string
}

// FromOutside says whether a kubelet has to leave its node's addresses to the
// controller.
func (a Addresses) FromOutside() bool {
	return a.Wait || len(a.External)+len(a.InternalDNS)+len(a.ExternalDNS) > 0
}

// Annotations are the addresses as the controller reads them. Those that hold
// nothing are nil, which takes earlier ones away.
func (a Addresses) Annotations() map[string]*string {
	all := map[string]*string{annotationInternalIP: nil, annotationExternalIP: nil, annotationInternalDNS: nil, annotationExternalDNS: nil}
	if !a.FromOutside() {
		return all
	}
	set := func(name string, list []string) {
		if text := strings.Join(list, ","); text != "" {
			all[name] = &text
		}
	}
	set(annotationInternalIP, texts(a.Internal))
	set(annotationExternalIP, texts(a.External))
	set(annotationInternalDNS, a.InternalDNS)
	set(annotationExternalDNS, a.ExternalDNS)
	return all
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}
