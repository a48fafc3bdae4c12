package controllermanager

import (
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
)

// nodeController is the identity of the controllers that look after nodes, of
// which node-ipam gives each node its share of the cluster's addresses.
const nodeController = "node-controller"

const (
	// cidrWait bounds how long a write waits for the cache; a node that is to
	// have no addresses is written to that much slower.
	cidrWait = 200 * time.Millisecond
	// cidrInterval is the time between looks, of which few are needed.
	cidrInterval = 2 * time.Millisecond
)

// cidrClients lets the node controllers see their own writes. Upstream's
// node-ipam gives a node addresses, looks at it again because the kubelet has
// just updated it, and does so in a cache that does not have the addresses yet:
// it tries to give it more, is refused, and leaves the event
// CIDRAssignmentFailed on each new node. In one process that is the rule.
type cidrClients struct {
	serviceAccountClients
	nodes corelisters.NodeLister
}

// Config implements clientbuilder.ControllerClientBuilder.
func (b cidrClients) Config(name string) (*rest.Config, error) {
	c, err := b.serviceAccountClients.Config(name)
	if err != nil || name != nodeController {
		return c, err
	}
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return cidrTransport{next, b.hasCIDR} })
	return c, nil
}

// Client implements clientbuilder.ControllerClientBuilder.
func (b cidrClients) Client(name string) (kubernetes.Interface, error) { return newClient(b, name) }

func (b cidrClients) hasCIDR(node string) bool {
	n, err := b.nodes.Get(node)
	return err != nil || len(n.Spec.PodCIDRs) > 0
}

// cidrTransport delays the answer to a change of a node until settled, or for
// cidrWait. Its other requests pass.
type cidrTransport struct {
	next    http.RoundTripper
	settled func(node string) bool
}

// RoundTrip implements http.RoundTripper.
func (t cidrTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	node, ok := strings.CutPrefix(r.URL.Path, "/api/v1/nodes/")
	if err != nil || !ok || r.Method != http.MethodPatch || resp.StatusCode != http.StatusOK || strings.Contains(node, "/") {
		return resp, err
	}
	end := time.NewTimer(cidrWait)
	defer end.Stop()
	tick := time.NewTicker(cidrInterval)
	defer tick.Stop()
	for !t.settled(node) {
		select {
		case <-tick.C:
		case <-end.C:
			return resp, nil
		case <-r.Context().Done():
			return resp, nil
		}
	}
	return resp, nil
}
