package tunnel

import (
	"context"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// ClusterRules is what the client of NewServer may do.
func ClusterRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list", "watch"}}}
}

// nodes knows which node an address belongs to.
type nodes struct {
	log    *logrus.Entry
	synced chan struct{}

	mu     sync.Mutex
	byName map[string]node
	byHost map[string]string // address, or name in lower case, to node
}

// node is what matters of one.
type node struct {
	name        string
	born        time.Time
	hosts       []string // addresses, and names in lower case
	kubeletPort string
	podCIDRs    []netip.Prefix
}

func newNodes(log *logrus.Entry) *nodes {
	return &nodes{log: log, synced: make(chan struct{}), byName: map[string]node{}}
}

// watch follows the cluster's nodes until ctx ends.
func (t *nodes) watch(ctx context.Context, client kubernetes.Interface) {
	api := client.CoreV1().Nodes()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return api.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return api.Watch(ctx, o)
		},
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, client),
		ObjectType:    &corev1.Node{},
		Transform:     slim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { t.set(read(o.(*corev1.Node))) },
			UpdateFunc: func(_, o any) { t.set(read(o.(*corev1.Node))) },
			DeleteFunc: func(o any) {
				if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
					t.forget(name)
				}
			},
		},
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { informer.RunWithContext(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		close(t.synced)
	}
	<-ctx.Done()
}

// slim drops what nobody here reads: a Node lists all images it has.
func slim(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	s := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}}
	s.Name, s.UID, s.ResourceVersion, s.CreationTimestamp = n.Name, n.UID, n.ResourceVersion, n.CreationTimestamp
	s.Status.Addresses, s.Status.DaemonEndpoints = n.Status.Addresses, n.Status.DaemonEndpoints
	return s, nil
}

// defaultKubeletPort is the API server's guess for a node that names none.
const defaultKubeletPort = 10250

func read(n *corev1.Node) node {
	out := node{name: n.Name, born: n.CreationTimestamp.Time, kubeletPort: strconv.Itoa(defaultKubeletPort)}
	if p := n.Status.DaemonEndpoints.KubeletEndpoint.Port; p != 0 {
		out.kubeletPort = strconv.Itoa(int(p))
	}
	for _, a := range n.Status.Addresses {
		out.hosts = append(out.hosts, canonical(a.Address))
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, cidr := range cidrs {
		if p, err := netip.ParsePrefix(cidr); err == nil {
			out.podCIDRs = append(out.podCIDRs, p)
		}
	}
	return out
}

// canonical makes the spellings of one address or name the same.
func canonical(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

func (t *nodes) set(n node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, known := t.byName[n.name]; known && reflect.DeepEqual(before, n) {
		return // a sign of life
	}
	t.byName[n.name] = n
	t.index()
}

func (t *nodes) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byName, name)
	t.index()
}

// index rebuilds byHost. A kubelet says itself which addresses its node has:
// with an address that two claim, the older node stays in its place.
func (t *nodes) index() {
	t.byHost = map[string]string{}
	for _, n := range t.byName {
		for _, host := range n.hosts {
			other, taken := t.byName[t.byHost[host]]
			if taken && other.name != n.name {
				t.log.WithField("address", host).Warnf("Nodes %s and %s claim the same address; it is taken for that of the older one", other.name, n.name)
			}
			if !taken || older(n, other) {
				t.byHost[host] = n.name
			}
		}
	}
}

func older(a, b node) bool {
	return a.born.Before(b.born) || a.born.Equal(b.born) && a.name < b.name
}

// wait waits until all nodes are known, and says whether they are.
func (t *nodes) wait(ctx context.Context, limit time.Duration) bool {
	select {
	case <-t.synced: // most of the time
		return true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.synced:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// at is the node that a host name or address belongs to.
func (t *nodes) at(host string) (node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, known := t.byName[t.byHost[canonical(host)]]
	return n, known
}

// ofPod is the node whose pods have addresses like addr.
func (t *nodes) ofPod(addr netip.Addr) (name string, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byName {
		if within(n.podCIDRs, addr.Unmap()) {
			return n.name, true
		}
	}
	return "", false
}
