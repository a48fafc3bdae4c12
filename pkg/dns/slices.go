package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	discoveryv1apply "k8s.io/client-go/applyconfigurations/discovery/v1"
)

const (
	serviceName  = "kube-dns"
	managedBy    = "skiff-kube-dns" // keeps Kubernetes' own EndpointSlice controllers away
	fieldManager = "skiff"
)

// reconcile writes what differs from what should be, and nothing else.
func (c *serviceController) reconcile(ctx context.Context, stores serviceStores) error {
	errs := []error{c.reconcileService(ctx, stores)}
	wanted := map[string]*discoveryv1.EndpointSlice{}
	for _, o := range stores.nodes.List() {
		for _, slice := range slicesOf(o.(*corev1.Node)) {
			wanted[slice.Name] = slice
		}
	}
	for _, o := range stores.slices.List() {
		have := o.(*discoveryv1.EndpointSlice)
		want := wanted[have.Name]
		if want != nil && have.AddressType == want.AddressType && equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports) {
			delete(wanted, have.Name)
			continue
		}
		if want == nil {
			err := c.api.DiscoveryV1().EndpointSlices(have.Namespace).Delete(ctx, have.Name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("deleting EndpointSlice %s: %w", have.Name, err))
			}
		}
	}
	for _, slice := range wanted {
		_, err := c.api.DiscoveryV1().EndpointSlices(slice.Namespace).Apply(ctx, applySlice(slice), metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			errs = append(errs, fmt.Errorf("writing EndpointSlice %s: %w", slice.Name, err))
		}
	}
	return errors.Join(errs...)
}

// reconcileService also repairs a Service that somebody changed. Traffic stays
// on the node by PreferSameNode and the hints in the slices. The other way,
// internalTrafficPolicy Local, would drop the queries of a node that has no
// slice yet, where this one lets another node answer.
func (c *serviceController) reconcileService(ctx context.Context, stores serviceStores) error {
	var ips, families []string
	for _, addr := range c.cfg.Addrs {
		ips = append(ips, addr.String())
		families = append(families, string(familyOf(addr.Is4())))
	}
	if o, ok, _ := stores.services.GetByKey(metav1.NamespaceSystem + "/" + serviceName); ok {
		spec := o.(*corev1.Service).Spec
		if slices.Equal(spec.ClusterIPs, ips) && len(spec.Selector) == 0 && len(spec.Ports) == 2 && spec.TrafficDistribution != nil && *spec.TrafficDistribution == corev1.ServiceTrafficDistributionPreferSameNode {
			return nil
		}
	}
	policy := corev1.IPFamilyPolicySingleStack
	if len(ips) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	spec := corev1apply.ServiceSpec().
		WithType(corev1.ServiceTypeClusterIP).
		WithClusterIP(ips[0]).WithClusterIPs(ips...).
		WithIPFamilyPolicy(policy).
		WithTrafficDistribution(corev1.ServiceTrafficDistributionPreferSameNode).
		WithPorts(
			corev1apply.ServicePort().WithName("dns").WithProtocol(corev1.ProtocolUDP).WithPort(port).WithTargetPort(intstr.FromInt32(port)),
			corev1apply.ServicePort().WithName("dns-tcp").WithProtocol(corev1.ProtocolTCP).WithPort(port).WithTargetPort(intstr.FromInt32(port)),
		)
	for _, family := range families {
		spec.WithIPFamilies(corev1.IPFamily(family))
	}
	service := corev1apply.Service(serviceName, metav1.NamespaceSystem).
		WithLabels(map[string]string{"k8s-app": serviceName, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}).
		WithSpec(spec)
	if _, err := c.api.CoreV1().Services(metav1.NamespaceSystem).Apply(ctx, service, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return fmt.Errorf("writing Service %s: %w", serviceName, err)
	}
	return nil
}

func familyOf(is4 bool) discoveryv1.AddressType {
	if is4 {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// slicesOf are the EndpointSlices of a node, none before it has pod networks.
// The endpoint of a node that is not heard of any more is not ready, which only
// others notice: the node itself goes on with what it last knew.
func slicesOf(n *corev1.Node) []*discoveryv1.EndpointSlice {
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	addrs, _ := FirstAddrs(cidrs) // the API server has validated them
	ready := true
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionUnknown {
			ready = false
		}
	}
	var out []*discoveryv1.EndpointSlice
	for _, addr := range addrs {
		family := familyOf(addr.Is4())
		out = append(out, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: sliceName(n.Name, family)},
			AddressType: family,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses:  []string{addr.String()},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				NodeName:   &n.Name,
				Hints:      &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: n.Name}}},
			}},
			Ports: slicePorts(),
		})
	}
	return out
}

func slicePorts() []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, p := range []struct {
		name     string
		protocol corev1.Protocol
	}{{"dns", corev1.ProtocolUDP}, {"dns-tcp", corev1.ProtocolTCP}} {
		number := int32(port)
		out = append(out, discoveryv1.EndpointPort{Name: &p.name, Protocol: &p.protocol, Port: &number})
	}
	return out
}

// sliceName keeps below the 253 characters of a name.
func sliceName(node string, family discoveryv1.AddressType) string {
	name := serviceName + "-" + node
	if family == discoveryv1.AddressTypeIPv6 {
		name += "-ipv6"
	}
	if len(name) <= 253 {
		return name
	}
	return fmt.Sprintf("%s-%x", serviceName, fingerprint(node, string(family)))
}

func applySlice(s *discoveryv1.EndpointSlice) *discoveryv1apply.EndpointSliceApplyConfiguration {
	out := discoveryv1apply.EndpointSlice(s.Name, s.Namespace).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: serviceName, discoveryv1.LabelManagedBy: managedBy}).
		WithAddressType(s.AddressType)
	for _, e := range s.Endpoints {
		hints := discoveryv1apply.EndpointHints()
		for _, n := range e.Hints.ForNodes {
			hints.WithForNodes(discoveryv1apply.ForNode().WithName(n.Name))
		}
		out.WithEndpoints(discoveryv1apply.Endpoint().
			WithAddresses(e.Addresses...).
			WithConditions(discoveryv1apply.EndpointConditions().WithReady(*e.Conditions.Ready)).
			WithNodeName(*e.NodeName).
			WithHints(hints))
	}
	for _, p := range s.Ports {
		out.WithPorts(discoveryv1apply.EndpointPort().WithName(*p.Name).WithProtocol(*p.Protocol).WithPort(*p.Port))
	}
	return out
}
