package tunnel

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// Targets is what servers may connect to through an agent. Nothing else on the
// loopback interface, and no other service of the host, is among it.
type Targets struct {
	Mode Mode
	// Kubelet is where this node's kubelet listens, 127.0.0.1:10250.
	Kubelet netip.AddrPort

	// The rest is for ModePod and ModeCluster only. Client is the kubelet's: it may
	// read its Node and the pods that are bound to it.
	Node                       string
	Client                     kubernetes.Interface
	ClusterCIDRs, ServiceCIDRs []netip.Prefix
}

// resolve turns what a server asks for into an address, or says why not.
func (t Targets) resolve(ctx context.Context, target string) (string, error) {
	if target == kubeletTarget {
		return t.Kubelet.String(), nil
	}
	at, err := netip.ParseAddrPort(target)
	if err != nil {
		return "", fmt.Errorf("a tunnel leads to addresses: %w", err)
	}
	if !t.Mode.pods() {
		return "", fmt.Errorf("a tunnel leads to the kubelet only, not to %s: egress-selector-mode is %s", target, t.Mode)
	}
	if t.Mode == ModeCluster && (within(t.ClusterCIDRs, at.Addr()) || within(t.ServiceCIDRs, at.Addr())) {
		return target, nil
	}
	if err := t.ours(ctx, at); err != nil {
		return "", err
	}
	return target, nil
}

// ours says whether an address belongs to a pod of this node. It asks each
// time: a watch would cost more, all the time, than the rare question.
func (t Targets) ours(ctx context.Context, at netip.AddrPort) error {
	n, err := t.Client.CoreV1().Nodes().Get(ctx, t.Node, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("finding out whether %s is a pod's: %w", at, err)
	}
	self := read(n)
	if within(self.podCIDRs, at.Addr()) {
		return nil
	}
	for _, host := range self.hosts {
		if host != at.Addr().String() {
			continue
		}
		found, err := t.onHostNetwork(ctx, at.Port())
		if err != nil || found {
			return err
		}
		return fmt.Errorf("no pod on node %s that uses the host's network declares the port %d", t.Node, at.Port())
	}
	return fmt.Errorf("%s is no address of node %s or of its pods", at.Addr(), t.Node)
}

// onHostNetwork says whether a pod that shares the node's addresses declares
// the port.
func (t Targets) onHostNetwork(ctx context.Context, port uint16) (bool, error) {
	pods, err := t.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("spec.nodeName", t.Node).String(),
		ResourceVersion: "0",
	})
	if err != nil {
		return false, fmt.Errorf("finding out whether a pod uses port %d of node %s: %w", port, t.Node, err)
	}
	for _, pod := range pods.Items {
		if pod.Spec.HostNetwork && declares(pod.Spec, port) {
			return true, nil
		}
	}
	return false, nil
}

func declares(spec corev1.PodSpec, port uint16) bool {
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		for _, p := range c.Ports {
			if p.ContainerPort == int32(port) && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				return true
			}
		}
	}
	return false
}
