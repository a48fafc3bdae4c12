package dns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	logrustest "github.com/sirupsen/logrus/hooks/test"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/sirupsen/logrus"
)

// kubeDNS runs the controller against client-go's own fake API.
func kubeDNS(t *testing.T, client *fake.Clientset, addrs ...string) {
	t.Helper()
	logger, _ := logrustest.NewNullLogger()
	c := &serviceController{api: client, log: logrus.NewEntry(logger), changed: make(chan struct{}, 1)}
	for _, a := range addrs {
		c.cfg.Addrs = append(c.cfg.Addrs, netip.MustParseAddr(a))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		t.Fatal("not ready after 10 s")
	}
}

func nodeWith(name string, status corev1.ConditionStatus, cidrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: cidrs}}
	if len(cidrs) > 0 {
		n.Spec.PodCIDR = cidrs[0]
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	return n
}

// slicesNow are the EndpointSlices as "name address ready hint".
func slicesNow(t *testing.T, client *fake.Clientset) string {
	t.Helper()
	list, err := client.DiscoveryV1().EndpointSlices("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kube-dns"})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			out = append(out, fmt.Sprintf("%s %s:%d ready=%t for=%s", s.Name, e.Addresses[0], *s.Ports[0].Port, *e.Conditions.Ready, e.Hints.ForNodes[0].Name))
		}
	}
	return strings.Join(out, "\n")
}

func TestKubeDNS(t *testing.T) {
	client := fake.NewClientset(nodeWith("a", corev1.ConditionTrue, "10.42.0.0/24"), nodeWith("new", corev1.ConditionFalse))
	kubeDNS(t, client, "10.43.0.10")
	nodes := client.CoreV1().Nodes()

	t.Run("has the address that the cluster knows it by, and no selector", func(t *testing.T) {
		eventually(t, "10.43.0.10 map[] PreferSameNode dns/UDP dns-tcp/TCP", func() string {
			s, err := client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			out := fmt.Sprint(s.Spec.ClusterIP, " ", s.Spec.Selector, " ", *s.Spec.TrafficDistribution)
			for _, p := range s.Spec.Ports {
				out += fmt.Sprintf(" %s/%s", p.Name, p.Protocol)
			}
			return out
		})
	})
	one := "kube-dns-a 10.42.0.1:53 ready=true for=a"
	t.Run("leads to the nodes that have a pod network, each for itself", func(t *testing.T) {
		eventually(t, one, func() string { return slicesNow(t, client) })
	})
	t.Run("leads to a node that gets its pod network", func(t *testing.T) {
		if _, err := nodes.Update(t.Context(), nodeWith("new", corev1.ConditionTrue, "10.42.1.0/24"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, one+"\nkube-dns-new 10.42.1.1:53 ready=true for=new", func() string { return slicesNow(t, client) })
	})
	t.Run("does not send others to a node that is not heard of", func(t *testing.T) {
		if _, err := nodes.Update(t.Context(), nodeWith("new", corev1.ConditionUnknown, "10.42.1.0/24"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, one+"\nkube-dns-new 10.42.1.1:53 ready=false for=new", func() string { return slicesNow(t, client) })
	})
	t.Run("forgets a node that goes", func(t *testing.T) {
		if err := nodes.Delete(t.Context(), "new", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, one, func() string { return slicesNow(t, client) })
	})
	t.Run("comes back when somebody deletes it", func(t *testing.T) {
		if err := client.CoreV1().Services("kube-system").Delete(t.Context(), "kube-dns", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "10.43.0.10", func() string {
			s, err := client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			return s.Spec.ClusterIP
		})
	})
	t.Run("writes nothing for the heartbeats of a node", func(t *testing.T) {
		client.ClearActions()
		for i := range 3 {
			n := nodeWith("a", corev1.ConditionTrue, "10.42.0.0/24")
			n.Annotations = map[string]string{"heartbeat": fmt.Sprint(i)}
			if _, err := nodes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		// Another node's slice shows that the heartbeats have been seen.
		if _, err := nodes.Create(t.Context(), nodeWith("b", corev1.ConditionTrue, "10.42.2.0/24"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, one+"\nkube-dns-b 10.42.2.1:53 ready=true for=b", func() string { return slicesNow(t, client) })
		for _, name := range written(client) {
			if name != "kube-dns-b" {
				t.Errorf("%s was written", name)
			}
		}
	})
}

func TestKubeDNSWithTwoAddressFamilies(t *testing.T) {
	client := fake.NewClientset(nodeWith("a", corev1.ConditionTrue, "10.42.0.0/24", "fd42::/64"))
	kubeDNS(t, client, "10.43.0.10", "fd43::a")
	eventually(t, "kube-dns-a 10.42.0.1:53 ready=true for=a\nkube-dns-a-ipv6 fd42::1:53 ready=true for=a", func() string { return slicesNow(t, client) })
	s, err := client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(s.Spec.ClusterIPs, s.Spec.IPFamilies, *s.Spec.IPFamilyPolicy), "[10.43.0.10 fd43::a] [IPv4 IPv6]RequireDualStack"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// written are the names of the Services and EndpointSlices that were changed.
func written(client *fake.Clientset) []string {
	var names []string
	for _, a := range client.Actions() {
		if p, ok := a.(ktesting.PatchAction); ok && a.GetResource().Resource != "nodes" {
			names = append(names, p.GetName())
		}
	}
	return names
}

func TestNamesOfSlices(t *testing.T) {
	long := strings.Repeat("n", 250)
	for _, tc := range []struct {
		node   string
		family discoveryv1.AddressType
		want   func(string) bool
	}{
		{"edge-1", discoveryv1.AddressTypeIPv4, func(s string) bool { return s == "kube-dns-edge-1" }},
		{"edge-1", discoveryv1.AddressTypeIPv6, func(s string) bool { return s == "kube-dns-edge-1-ipv6" }},
		{long, discoveryv1.AddressTypeIPv4, func(s string) bool { return len(s) < 254 && strings.HasPrefix(s, "kube-dns-") }},
	} {
		if got := sliceName(tc.node, tc.family); !tc.want(got) {
			t.Errorf("%.20s... %s: %q", tc.node, tc.family, got)
		}
	}
}
