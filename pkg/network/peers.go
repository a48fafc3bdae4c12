package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// peers watches the cluster's nodes, this one among them, with one informer.
type peers struct {
	cfg    Config
	client kubernetes.Interface

	informer cache.SharedInformer
	running  sync.WaitGroup
	// changed has something in it when this node's object changed.
	changed chan struct{}

	mu sync.Mutex
	// appeared is closed when there is a node besides this one.
	appeared chan struct{}
	others   bool
	watchers map[chan struct{}]struct{}
}

func newPeers(cfg Config, client kubernetes.Interface) *peers {
	return &peers{
		cfg: cfg, client: client,
		changed:  make(chan struct{}, 1),
		appeared: make(chan struct{}),
		watchers: map[chan struct{}]struct{}{},
	}
}

// start begins to watch. It returns before anything is known.
func (p *peers) start(ctx context.Context) error {
	p.informer = coreinformers.NewNodeInformer(p.client, 0, cache.Indexers{})
	if err := p.informer.SetTransform(slim); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	_, err := p.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { p.note(obj) },
		UpdateFunc: func(_, obj any) { p.note(obj) },
		DeleteFunc: func(obj any) { p.note(obj) },
	})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	p.running.Go(func() { p.informer.RunWithContext(ctx) })
	return nil
}

// wait returns when the informer has stopped.
func (p *peers) wait() { p.running.Wait() }

// slim drops what is not looked at: a node's list of images and the history of
// its fields are most of it.
func slim(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Annotations: n.Annotations},
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Conditions: networkCondition(n)},
	}, nil
}

func networkCondition(n *corev1.Node) []corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			return []corev1.NodeCondition{c}
		}
	}
	return nil
}

// note wakes up whom a node event concerns.
func (p *peers) note(obj any) {
	if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	n, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	if n.Name == p.cfg.NodeName {
		poke(p.changed)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.others {
		p.others = true
		close(p.appeared)
	}
	for w := range p.watchers {
		poke(w)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// subscribe returns a channel that has something in it when another node
// changed, at first too.
func (p *peers) subscribe() (changed chan struct{}, cancel func()) {
	changed = make(chan struct{}, 1)
	changed <- struct{}{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[changed] = struct{}{}
	return changed, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, changed)
	}
}

// self is this node, or nil as long as it is not registered.
func (p *peers) self() *corev1.Node {
	obj, ok, err := p.informer.GetStore().GetByKey(p.cfg.NodeName)
	if err != nil || !ok {
		return nil
	}
	return obj.(*corev1.Node)
}

// all lists the nodes known now.
func (p *peers) all() []*corev1.Node {
	objects := p.informer.GetStore().List()
	nodes := make([]*corev1.Node, 0, len(objects))
	for _, o := range objects {
		nodes = append(nodes, o.(*corev1.Node))
	}
	return nodes
}

// podCIDRs is this node's share, empty as long as it has none.
func (p *peers) podCIDRs() []netip.Prefix {
	n := p.self()
	if n == nil {
		return nil
	}
	return nodeCIDRs(n)
}

func nodeCIDRs(n *corev1.Node) []netip.Prefix {
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 && n.Spec.PodCIDR != "" {
		texts = []string{n.Spec.PodCIDR}
	}
	var cidrs []netip.Prefix
	for _, t := range texts {
		// The API server admits only well-formed ones.
		if p, err := netip.ParsePrefix(t); err == nil {
			cidrs = append(cidrs, p.Masked())
		}
	}
	return cidrs
}

// patchRetry is the time between attempts to write to the node. The API server
// is near; what fails is a restart of it.
const patchRetry = 2 * time.Second

// reportAvailable sets the condition NetworkUnavailable to false, once, so that
// cloud providers and people see that the node has a network.
func (p *peers) reportAvailable(ctx context.Context, log *logrus.Entry) {
	if n := p.self(); n != nil {
		if c := networkCondition(n); len(c) > 0 && c[0].Status == corev1.ConditionFalse {
			return
		}
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse,
		Reason: "FlannelIsUp", Message: "Flannel is running on this node",
		LastTransitionTime: now, LastHeartbeatTime: now,
	}}}})
	if err != nil {
		log.WithError(err).Error("cannot encode the node's network condition")
		return
	}
	if err := p.patch(ctx, types.StrategicMergePatchType, patch); err != nil && ctx.Err() == nil {
		log.WithError(err).Warn("cannot set the node's network condition")
	}
}

// patch writes to this node, until it succeeds or ctx ends.
func (p *peers) patch(ctx context.Context, kind types.PatchType, data []byte) error {
	for {
		_, err := p.client.CoreV1().Nodes().Patch(ctx, p.cfg.NodeName, kind, data, metav1.PatchOptions{}, "status")
		if err == nil || ctx.Err() != nil {
			return err
		}
		if permanent(err) {
			return fmt.Errorf("write to the node %s: %w", p.cfg.NodeName, err)
		}
		if !pause(ctx, patchRetry) {
			return ctx.Err()
		}
	}
}

// permanent says that trying again would give the same error.
func permanent(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// pause waits for d and is false when ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
