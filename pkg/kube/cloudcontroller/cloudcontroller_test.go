package cloudcontroller

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cloudproviderapi "k8s.io/cloud-provider/api"
)

// annotated is a node that waits, with what its agent wrote down.
func annotated(a Addresses) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one", Annotations: map[string]string{}}}
	n.Spec.Taints = []corev1.Taint{{Key: cloudproviderapi.TaintExternalCloudProvider}}
	for k, v := range a.Annotations() {
		if v != nil {
			n.Annotations[k] = *v
		}
	}
	return n
}

func TestANodeGetsWhatItsAgentSays(t *testing.T) {
	got, err := provider{}.InstanceMetadata(t.Context(), annotated(Addresses{
		Internal:    []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")},
		External:    []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.7")},
		ExternalDNS: []string{"one.example.org"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, a := range got.NodeAddresses {
		list = append(list, string(a.Type)+"="+a.Address)
	}
	const want = "InternalIP=192.0.2.1 InternalIP=fd00::1 ExternalIP=203.0.113.7 ExternalDNS=one.example.org Hostname=one"
	if strings.Join(list, " ") != want || got.ProviderID != "skiff://one" {
		t.Errorf("got %v, %s", list, got.ProviderID)
	}
}

func TestANodeThatWaitsGetsNothingElse(t *testing.T) {
	if got, err := (provider{}).InstanceMetadata(t.Context(), annotated(Addresses{Internal: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})); err == nil {
		t.Errorf("got %+v", got)
	}
}

func TestANodeWithoutAnnotationsKeepsItsAddresses(t *testing.T) {
	got, err := provider{}.InstanceMetadata(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: corev1.NodeSpec{ProviderID: "other://x"}})
	if err != nil || got == nil || len(got.NodeAddresses) != 0 || got.ProviderID != "other://x" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	n := annotated(Addresses{})
	n.Annotations[annotationInternalIP] = "192.0.2.1,nonsense"
	if _, err := (provider{}).InstanceMetadata(t.Context(), n); err == nil || !strings.Contains(err.Error(), annotationInternalIP) {
		t.Errorf("got %v", err)
	}
}
