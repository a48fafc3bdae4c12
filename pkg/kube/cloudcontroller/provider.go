package cloudcontroller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	cloudproviderapi "k8s.io/cloud-provider/api"
)

// provider is the cloud of machines that say themselves what they are.
type provider struct{}

var (
	_ cloudprovider.Interface   = provider{}
	_ cloudprovider.InstancesV2 = provider{}
)

// providerName begins the provider IDs of nodes: skiff://NAME.
const providerName = "skiff"

func (provider) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (provider) LoadBalancer() (cloudprovider.LoadBalancer, bool)                  { return nil, false }
func (provider) Instances() (cloudprovider.Instances, bool)                        { return nil, false }
func (p provider) InstancesV2() (cloudprovider.InstancesV2, bool)                  { return p, true }
func (provider) Zones() (cloudprovider.Zones, bool)                                { return nil, false }
func (provider) Clusters() (cloudprovider.Clusters, bool)                          { return nil, false }
func (provider) Routes() (cloudprovider.Routes, bool)                              { return nil, false }
func (provider) ProviderName() string                                              { return providerName }
func (provider) HasClusterID() bool                                                { return true }

// InstanceExists is asked by controllers that delete nodes of machines that are
// gone, which nobody here can know.
func (provider) InstanceExists(context.Context, *corev1.Node) (bool, error)   { return true, nil }
func (provider) InstanceShutdown(context.Context, *corev1.Node) (bool, error) { return false, nil }

// InstanceMetadata reads what the node's agent has written down. A new node has
// to wait for that, so that its pods see all addresses from the start; the
// change to the Node has it looked at again. One without annotations keeps the
// addresses that its kubelet gave it.
func (provider) InstanceMetadata(_ context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	addresses, err := fromAnnotations(node)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 && waits(node) {
		return nil, fmt.Errorf("node %s has not told its addresses yet", node.Name)
	}
	id := node.Spec.ProviderID
	if id == "" {
		id = ProviderID(node.Name)
	}
	return &cloudprovider.InstanceMetadata{ProviderID: id, NodeAddresses: addresses}, nil
}

func waits(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == cloudproviderapi.TaintExternalCloudProvider })
}

// ProviderID is a node's name for controllers that know machines by more than
// the names of nodes.
func ProviderID(node string) string { return providerName + "://" + node }

// fromAnnotations is what Annotations wrote. Addresses that are none are
// refused: a node must not be able to confuse its readers.
func fromAnnotations(node *corev1.Node) ([]corev1.NodeAddress, error) {
	if node.Annotations[annotationInternalIP] == "" {
		return nil, nil
	}
	var all []corev1.NodeAddress
	for _, from := range sources() {
		for text := range strings.SplitSeq(node.Annotations[from.annotation], ",") {
			if text == "" {
				continue
			}
			if from.ip {
				if _, err := netip.ParseAddr(text); err != nil {
					return nil, fmt.Errorf("annotation %s of node %s: %w", from.annotation, node.Name, err)
				}
			}
			a := corev1.NodeAddress{Type: from.kind, Address: text}
			if !slices.Contains(all, a) { // the API refuses an address that is there twice
				all = append(all, a)
			}
		}
	}
	return append(all, corev1.NodeAddress{Type: corev1.NodeHostName, Address: node.Name}), nil
}
