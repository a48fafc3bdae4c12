package dns

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// ServiceConfig is what the Service kube-dns needs.
type ServiceConfig struct {
	// Addrs are its cluster addresses, one per address family; the first one's
	// family is the primary one.
	Addrs []netip.Addr
}

// serviceController keeps the Service kube-dns and one EndpointSlice per node
// and address family.
type serviceController struct {
	cfg     ServiceConfig
	api     kubernetes.Interface // nil before Run
	client  *rest.Config
	log     *logrus.Entry
	changed chan struct{}
}

// NewService makes the controller of the Service kube-dns. client must have
// ServiceClusterRules and ServiceSystemRules. It runs on servers; several at a
// time write the same.
func NewService(cfg ServiceConfig, client *rest.Config, log *logrus.Entry) component.Component {
	return &serviceController{cfg: cfg, client: client, log: log, changed: make(chan struct{}, 1)}
}

// Name implements component.Component.
func (*serviceController) Name() string { return serviceName }

// Run implements component.Component. It is ready when it has seen the cluster.
func (c *serviceController) Run(ctx context.Context, ready func()) error {
	if c.api == nil {
		api, err := kubernetes.NewForConfig(c.client)
		if err != nil {
			return fmt.Errorf("making a client for %s: %w", serviceName, err)
		}
		c.api = api
	}
	stores, wait := c.watch(ctx)
	defer wait()
	if !cache.WaitForCacheSync(ctx.Done(), stores.synced...) {
		return nil
	}
	ready()
	const first, most = time.Second, time.Minute
	backoff := first
	for {
		retry := make(<-chan time.Time)
		if err := c.reconcile(ctx, stores); err == nil {
			backoff = first
		} else if ctx.Err() == nil {
			c.log.WithError(err).Error("Writing the Service kube-dns failed; trying again")
			retry = time.After(backoff)
			backoff = min(2*backoff, most)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		case <-retry:
		}
	}
}

type serviceStores struct {
	nodes, services, slices cache.Store
	synced                  []cache.InformerSynced
}

func (c *serviceController) watch(ctx context.Context) (stores serviceStores, wait func()) {
	oneService := fields.OneTermEqualSelector(metav1.ObjectNameField, serviceName).String()
	ourSlices := labels.Set{discoveryv1.LabelServiceName: serviceName, discoveryv1.LabelManagedBy: managedBy}.String()
	nodes := c.api.CoreV1().Nodes()
	services, slices := c.api.CoreV1().Services(metav1.NamespaceSystem), c.api.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem)
	var ended []<-chan struct{}
	start := func(store *cache.Store, o runtime.Object, transform cache.TransformFunc, lw *cache.ListWatch) {
		s, informer := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, c.api), ObjectType: o, Transform: transform,
			Handler: cache.ResourceEventHandlerFuncs{
				AddFunc:    func(any) { c.wake() },
				UpdateFunc: func(any, any) { c.wake() },
				DeleteFunc: func(any) { c.wake() },
			},
		})
		*store = s
		stores.synced = append(stores.synced, informer.HasSynced)
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { defer close(done); informer.RunWithContext(ctx) }()
	}
	start(&stores.nodes, &corev1.Node{}, slimNode, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return nodes.Watch(ctx, o)
		},
	})
	start(&stores.services, &corev1.Service{}, nil, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = oneService
			return services.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = oneService
			return services.Watch(ctx, o)
		},
	})
	start(&stores.slices, &discoveryv1.EndpointSlice{}, nil, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = ourSlices
			return slices.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = ourSlices
			return slices.Watch(ctx, o)
		},
	})
	return stores, func() {
		for _, done := range ended {
			<-done
		}
	}
}

func (c *serviceController) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}
