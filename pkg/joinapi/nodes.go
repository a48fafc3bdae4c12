package joinapi

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// nodes follows the Nodes of the cluster: who has which names and addresses,
// and which of them have come, so that their passwords are tied to them.
type nodes struct {
	informer cache.SharedInformer
	queue    workqueue.TypedRateLimitingInterface[newNode]
	own      func(ctx context.Context, node string, uid types.UID) error
	log      *logrus.Entry
}

// newNode is a Node that has come.
type newNode struct {
	name string
	uid  types.UID
}

func newNodes(c kubernetes.Interface, own func(context.Context, string, types.UID) error, log *logrus.Entry) *nodes {
	lw := cache.NewListWatchFromClient(c.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything())
	return &nodes{
		informer: cache.NewSharedInformer(lw, &corev1.Node{}, 0),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[newNode](100*time.Millisecond, time.Minute)),
		own: own,
		log: log,
	}
}

// run follows until ctx ends.
func (n *nodes) run(ctx context.Context) {
	add := func(obj any) {
		if node, ok := obj.(*corev1.Node); ok {
			n.queue.Add(newNode{node.Name, node.UID})
		}
	}
	// Both fail only for an informer that has been started.
	_ = n.informer.SetTransform(slim)
	_, _ = n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(before, now any) {
		// A Node that was deleted and made again between two looks.
		if a, ok := before.(*corev1.Node); ok {
			if b, ok := now.(*corev1.Node); ok && a.UID != b.UID {
				add(now)
			}
		}
	}})
	stop := context.AfterFunc(ctx, n.queue.ShutDown)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.informer.RunWithContext(ctx)
	}()
	for n.next(ctx) {
	}
	<-done
}

func (n *nodes) next(ctx context.Context) bool {
	node, down := n.queue.Get()
	if down {
		return false
	}
	defer n.queue.Done(node)
	if err := n.own(ctx, node.name, node.uid); err != nil && ctx.Err() == nil {
		n.log.WithError(err).Warn("Will try again")
		n.queue.AddRateLimited(node)
		return true
	}
	n.queue.Forget(node)
	return true
}

func (n *nodes) synced(ctx context.Context) bool {
	return cache.WaitFor(ctx, "", n.informer.HasSyncedChecker())
}

// slim keeps of a Node what is asked for here.
func slim(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	small := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion}}
	small.Status.Addresses = node.Status.Addresses
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			small.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return small, nil
}

// find is the name of a Node of which something is true.
func (n *nodes) find(is func(*corev1.Node) bool) string {
	for _, obj := range n.informer.GetStore().List() {
		if node, ok := obj.(*corev1.Node); ok && is(node) {
			return node.Name
		}
	}
	return ""
}

// named is the node that is called by a name inside the cluster.
func (n *nodes) named(name string) string {
	if _, there, err := n.informer.GetStore().GetByKey(name); there && err == nil {
		return name
	}
	return n.find(func(node *corev1.Node) bool {
		return has(node, name, corev1.NodeHostName, corev1.NodeInternalDNS)
	})
}

// at is the node that the API server reaches at an address and that is Ready:
// addresses of machines that are off may have gone to others.
func (n *nodes) at(addr netip.Addr) string {
	return n.find(func(node *corev1.Node) bool {
		ready := len(node.Status.Conditions) > 0 && node.Status.Conditions[0].Status == corev1.ConditionTrue
		return ready && has(node, addr.String(), corev1.NodeInternalIP)
	})
}

func has(node *corev1.Node, address string, kinds ...corev1.NodeAddressType) bool {
	return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
		return a.Address == address && slices.Contains(kinds, a.Type)
	})
}
