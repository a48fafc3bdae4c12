package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations by which flannel's nodes know each other, upstream's names.
const (
	annotationPrefix       = "flannel.alpha.coreos.com/"
	annotationManaged      = annotationPrefix + "kube-subnet-manager"
	annotationBackendType  = annotationPrefix + "backend-type"
	annotationBackendData  = annotationPrefix + "backend-data"
	annotationBackendData6 = annotationPrefix + "backend-v6-data"
	annotationPublicIP     = annotationPrefix + "public-ip"
	annotationPublicIP6    = annotationPrefix + "public-ipv6"
	annotationOverwrite    = annotationPrefix + "public-ip-overwrite"
	annotationOverwrite6   = annotationPrefix + "public-ipv6-overwrite"
)

// leases is what flannel's back ends know of the cluster. Upstream's
// implementation takes its identity from environment variables and files; this
// one is on our informer.
type leases struct {
	plan  *plan
	peers *peers
	log   *logrus.Entry
}

var _ subnet.Manager = (*leases)(nil)

var errNotUsed = errors.New("not used with Kubernetes")

// Name implements subnet.Manager.
func (l *leases) Name() string { return "nodes of the cluster" }

// GetNetworkConfig implements subnet.Manager. A back end has its configuration
// already.
func (l *leases) GetNetworkConfig(context.Context) (*subnet.Config, error) {
	return nil, errNotUsed
}

// AcquireLease implements subnet.Manager: it publishes how this node is reached.
func (l *leases) AcquireLease(ctx context.Context, attrs *lease.LeaseAttrs) (*lease.Lease, error) {
	n := l.peers.self()
	if n == nil {
		return nil, fmt.Errorf("the node %s is not registered", l.peers.cfg.NodeName)
	}
	wanted := annotations(n, attrs, l.plan.conf)
	changed := map[string]string{}
	for k, v := range wanted {
		if n.Annotations[k] != v {
			changed[k] = v
		}
	}
	if len(changed) > 0 {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": changed}})
		if err != nil {
			return nil, fmt.Errorf("encode the node's annotations: %w", err)
		}
		if err := l.peers.patch(ctx, types.MergePatchType, patch); err != nil {
			return nil, fmt.Errorf("publish how this node is reached: %w", err)
		}
	}
	own := newLease(nodeCIDRs(n))
	own.Attrs = *attrs
	return own, nil
}

// annotations are what other nodes have to know of this one.
func annotations(n *corev1.Node, attrs *lease.LeaseAttrs, conf *subnet.Config) map[string]string {
	a := map[string]string{
		annotationManaged:     strconv.FormatBool(true),
		annotationBackendType: attrs.BackendType,
	}
	if conf.EnableIPv4 {
		a[annotationBackendData] = text(attrs.BackendData)
		a[annotationPublicIP] = attrs.PublicIP.String()
		if o := n.Annotations[annotationOverwrite]; o != "" {
			a[annotationPublicIP] = o
		}
	}
	if conf.EnableIPv6 && attrs.PublicIPv6 != nil {
		a[annotationBackendData6] = text(attrs.BackendV6Data)
		a[annotationPublicIP6] = attrs.PublicIPv6.String()
		if o := n.Annotations[annotationOverwrite6]; o != "" {
			a[annotationPublicIP6] = o
		}
	}
	return a
}

// text is the annotation for data that may be missing, as flannel writes it.
func text(raw json.RawMessage) string {
	if raw == nil {
		return "null"
	}
	return string(raw)
}

// WatchLeases implements subnet.Manager: it sends what changed among the other
// nodes, beginning with all of them, and closes receiver when ctx ends.
func (l *leases) WatchLeases(ctx context.Context, receiver chan []lease.LeaseWatchResult) error {
	defer close(receiver)
	changed, cancel := l.peers.subscribe()
	defer cancel()
	sent := map[string]lease.Lease{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		now := l.current()
		events := difference(sent, now)
		sent = now
		if len(events) == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case receiver <- []lease.LeaseWatchResult{{Events: events}}:
		}
	}
}

// current are the other nodes that can be reached, by name.
func (l *leases) current() map[string]lease.Lease {
	found := map[string]lease.Lease{}
	for _, n := range l.peers.all() {
		if n.Name == l.peers.cfg.NodeName || n.Annotations[annotationManaged] != "true" || len(nodeCIDRs(n)) == 0 {
			continue
		}
		got, err := nodeLease(n, l.plan.conf)
		if err != nil {
			l.log.WithError(err).WithField("node", n.Name).Warn("pods of a node cannot be reached")
			continue
		}
		found[n.Name] = got
	}
	return found
}

// nodeLease reads another node's annotations.
func nodeLease(n *corev1.Node, conf *subnet.Config) (lease.Lease, error) {
	if is := n.Annotations[annotationBackendType]; is != conf.BackendType {
		return lease.Lease{}, fmt.Errorf("its flannel back end is %q, this node's is %q: give all nodes the same", is, conf.BackendType)
	}
	l := *newLease(nodeCIDRs(n))
	l.EnableIPv4 = l.EnableIPv4 && conf.EnableIPv4
	l.EnableIPv6 = l.EnableIPv6 && conf.EnableIPv6
	l.Attrs.BackendType = conf.BackendType
	var err error
	if l.EnableIPv4 {
		if l.Attrs.PublicIP, err = ip.ParseIP4(n.Annotations[annotationPublicIP]); err != nil {
			return l, fmt.Errorf("its annotation %s: %w", annotationPublicIP, err)
		}
		l.Attrs.BackendData = json.RawMessage(n.Annotations[annotationBackendData])
	}
	if l.EnableIPv6 {
		if l.Attrs.PublicIPv6, err = ip.ParseIP6(n.Annotations[annotationPublicIP6]); err != nil {
			return l, fmt.Errorf("its annotation %s: %w", annotationPublicIP6, err)
		}
		l.Attrs.BackendV6Data = json.RawMessage(n.Annotations[annotationBackendData6])
	}
	return l, nil
}

// difference is what leads from one state to the other. Removals come first: a
// subnet may have gone from one node to another, and what a node had before
// must not stay beside what it has now.
func difference(before, after map[string]lease.Lease) []lease.Event {
	var removed, added []lease.Event
	for name, old := range before {
		if now, ok := after[name]; !ok || !reflect.DeepEqual(old, now) {
			removed = append(removed, lease.Event{Type: lease.EventRemoved, Lease: old})
		}
	}
	for name, now := range after {
		if old, ok := before[name]; !ok || !reflect.DeepEqual(old, now) {
			added = append(added, lease.Event{Type: lease.EventAdded, Lease: now})
		}
	}
	return append(removed, added...)
}

// GetStoredMacAddresses implements subnet.Manager: a device made anew keeps its
// hardware address, so that other nodes need not learn it again.
func (l *leases) GetStoredMacAddresses(context.Context) (v4, v6 string) {
	n := l.peers.self()
	if n == nil {
		return "", ""
	}
	return storedMAC(n.Annotations[annotationBackendData]), storedMAC(n.Annotations[annotationBackendData6])
}

func storedMAC(data string) string {
	var stored struct{ VtepMAC string }
	if err := json.Unmarshal([]byte(data), &stored); err != nil {
		return ""
	}
	return stored.VtepMAC
}

// GetStoredPublicIP implements subnet.Manager.
func (l *leases) GetStoredPublicIP(context.Context) (v4, v6 string) { return "", "" }

// HandleSubnetFile implements subnet.Manager.
func (l *leases) HandleSubnetFile(string, *subnet.Config, bool, ip.IP4Net, ip.IP6Net, int) error {
	return errNotUsed
}

// RenewLease implements subnet.Manager.
func (l *leases) RenewLease(context.Context, *lease.Lease) error { return errNotUsed }

// WatchLease implements subnet.Manager.
func (l *leases) WatchLease(context.Context, ip.IP4Net, ip.IP6Net, chan []lease.LeaseWatchResult) error {
	return errNotUsed
}

// CompleteLease implements subnet.Manager.
func (l *leases) CompleteLease(context.Context, *lease.Lease, *sync.WaitGroup) error { return nil }
