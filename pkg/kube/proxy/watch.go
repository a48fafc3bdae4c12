package proxy

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	upstream "k8s.io/kubernetes/pkg/proxy"
	"k8s.io/kubernetes/pkg/proxy/apis"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	proxyconfig "k8s.io/kubernetes/pkg/proxy/config"
)

// watch feeds the proxier with Services, EndpointSlices, ServiceCIDRs and the
// labels of this node. The channel is closed when the proxier has put the
// first complete state into the kernel: its Synced callbacks do that before
// they return, and ours are called after them.
func watch(ctx context.Context, client kubernetes.Interface, c *kubeproxyconfig.KubeProxyConfiguration, nodeName string, p upstream.Provider, self *selfNode) <-chan struct{} {
	resync := c.ConfigSyncPeriod.Duration
	first := newFirstSync()

	services := factory(client, c, func(o *metav1.ListOptions) {
		o.LabelSelector = "!" + apis.LabelServiceProxyName
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone).String()
	})
	sc := proxyconfig.NewServiceConfig(ctx, services.Core().V1().Services(), resync)
	sc.RegisterEventHandler(p)
	sc.RegisterEventHandler(first)
	go sc.Run(ctx.Done())

	// Endpoints of headless Services are DNS' business.
	slices := factory(client, c, func(o *metav1.ListOptions) { o.LabelSelector = "!" + corev1.IsHeadlessService })
	ec := proxyconfig.NewEndpointSliceConfig(ctx, slices.Discovery().V1().EndpointSlices(), resync)
	ec.RegisterEventHandler(p)
	ec.RegisterEventHandler(first)
	go ec.Run(ctx.Done())

	all := factory(client, c, nil)
	cc := proxyconfig.NewServiceCIDRConfig(ctx, all.Networking().V1().ServiceCIDRs(), resync)
	cc.RegisterEventHandler(p)
	go cc.Run(ctx.Done())

	own := factory(client, c, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, nodeName).String()
	})
	nc := proxyconfig.NewNodeConfig(ctx, own.Core().V1().Nodes(), resync)
	nc.RegisterEventHandler(self)
	proxyconfig.NewNodeTopologyConfig(ctx, own.Core().V1().Nodes(), resync).RegisterEventHandler(p)
	go nc.Run(ctx.Done())

	// Informers start after every handler is registered: handlers are told
	// of changes only.
	for _, f := range []informers.SharedInformerFactory{services, slices, all, own} {
		f.Start(ctx.Done())
	}
	return first.done
}

func factory(client kubernetes.Interface, c *kubeproxyconfig.KubeProxyConfiguration, tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
	var opts []informers.SharedInformerOption
	if tweak != nil {
		opts = append(opts, informers.WithTweakListOptions(tweak))
	}
	return informers.NewSharedInformerFactoryWithOptions(client, c.ConfigSyncPeriod.Duration, opts...)
}

// firstSync closes done after both kinds were handed over once.
type firstSync struct {
	waiting sync.WaitGroup
	done    chan struct{}
}

func newFirstSync() *firstSync {
	f := &firstSync{done: make(chan struct{})}
	f.waiting.Add(2)
	go func() { f.waiting.Wait(); close(f.done) }()
	return f
}

// OnServiceSynced and OnEndpointSlicesSynced are the calls waited for; the
// rest of both handler interfaces does nothing.
func (f *firstSync) OnServiceSynced()                                      { f.waiting.Done() }
func (f *firstSync) OnEndpointSlicesSynced()                               { f.waiting.Done() }
func (f *firstSync) OnServiceAdd(*corev1.Service)                          {}
func (f *firstSync) OnServiceUpdate(_, _ *corev1.Service)                  {}
func (f *firstSync) OnServiceDelete(*corev1.Service)                       {}
func (f *firstSync) OnEndpointSliceAdd(*discoveryv1.EndpointSlice)         {}
func (f *firstSync) OnEndpointSliceUpdate(_, _ *discoveryv1.EndpointSlice) {}
func (f *firstSync) OnEndpointSliceDelete(*discoveryv1.EndpointSlice)      {}
