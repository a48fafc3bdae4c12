package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// Datastore is one that runs in this process and can be called.
type Datastore interface {
	// Client makes a client whose requests are calls. Its watches are a stream
	// of their own.
	Client() (*kubernetes.Client, error)
	// WithProgressNotify is clientv3.WithProgressNotify for such a client.
	WithProgressNotify(context.Context) context.Context
	// Endpoints and Status tell the version that the datastore claims to be.
	Endpoints() []string
	Status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error)
}

// calls makes the storages of resources on top of a Datastore. Upstream makes
// an etcd client with a connection of its own for each resource; here each has a
// client that calls. Everything above the client is upstream's.
type calls struct {
	store     Datastore
	options   *genericoptions.EtcdOptions
	compactor etcd3.Compactor
	uncached  map[schema.GroupResource]bool
	// encryption is nil when it is upstream's, by the user's arguments.
	encryption *Encryption
}

// newCalls starts the compactor, of which there is one, until the server has
// drained. It gives nil when the user has named other servers for some resource
// or for all, or there is no such datastore.
func newCalls(cfg EtcdConfig, o *genericoptions.EtcdOptions, g *genericapiserver.Config) (*calls, error) {
	if cfg.Datastore == nil || len(o.EtcdServersOverrides) > 0 || !slices.Equal(o.StorageConfig.Transport.ServerList, cfg.Endpoints) {
		return nil, nil
	}
	sizes, err := genericoptions.ParseWatchCacheSizes(o.WatchCacheSizes)
	if err != nil {
		return nil, err
	}
	c := &calls{store: cfg.Datastore, options: o, uncached: map[schema.GroupResource]bool{}}
	for resource, size := range sizes {
		c.uncached[resource] = size <= 0
	}
	client, err := c.store.Client()
	if err != nil {
		return nil, err
	}
	etcdfeature.DefaultFeatureSupportChecker.CheckClient(client.Ctx(), c.store, storage.RequestWatchProgress)
	compactor := etcd3.NewCompactor(client.Client, o.StorageConfig.CompactionInterval, clock.RealClock{}, nil)
	c.compactor = compactor
	go func() {
		<-g.DrainedNotify()
		compactor.Stop()
		client.Close()
	}()
	return c, nil
}

// takeOver does here, by calls, for which upstream would keep connections:
// compaction and the health checks, under upstream's names.
func (c *calls) takeOver(o *genericoptions.EtcdOptions, f *serverstorage.DefaultStorageFactory, g *genericapiserver.Config) error {
	f.StorageConfig.CompactionInterval = 0
	if o.SkipHealthEndpoints || o.EncryptionProviderConfigFilepath != "" {
		return nil // the checks of a KMS come with upstream's only
	}
	o.SkipHealthEndpoints = true
	client, err := c.store.Client()
	if err != nil {
		return err
	}
	timeout := cmp.Or(o.StorageConfig.HealthcheckTimeout, storagebackend.DefaultHealthcheckTimeout)
	check := func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if _, err := client.Kubernetes.Get(ctx, path.Join("/", o.StorageConfig.Prefix, "health"), kubernetes.GetOptions{}); err != nil {
			return fmt.Errorf("error getting data from the datastore: %w", err)
		}
		return nil
	}
	g.AddHealthChecks(healthz.NamedGroupedCheck("etcd", "etcd", check))
	g.AddReadyzChecks(healthz.NamedGroupedCheck("etcd-readiness", "etcd-readiness", check))
	return nil
}

// getter gives resources storages that call.
func (c *calls) getter(inner generic.RESTOptionsGetter) generic.RESTOptionsGetter {
	return getter{inner, c}
}

type getter struct {
	generic.RESTOptionsGetter
	c *calls
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g getter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return o, err
	}
	o.Decorator = g.c.undecorated
	if g.c.caches(resource) {
		o.Decorator = g.c.cached
	}
	return o, nil
}

// caches says whether watches and lists of a resource come from memory.
func (c *calls) caches(resource schema.GroupResource) bool {
	return c.options.EnableWatchCache && !c.uncached[resource]
}

// undecorated is generic.UndecoratedStorage.
func (c *calls) undecorated(config *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, _ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	return c.raw(config, prefix, newFunc, newListFunc)
}

// cached is registry.StorageWithCacher.
func (c *calls) cached(config *storagebackend.ConfigForResource, prefix string, keyFunc func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	s, destroy, err := c.raw(config, prefix, newFunc, newListFunc)
	if err != nil {
		return nil, nil, err
	}
	cached, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             s,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       config.GroupResource,
		EventsHistoryWindow: config.EventsHistoryWindow,
		ResourcePrefix:      prefix,
		KeyFunc:             keyFunc,
		NewFunc:             newFunc,
		NewListFunc:         newListFunc,
		GetAttrsFunc:        attrs,
		IndexerFuncs:        triggers,
		Indexers:            indexers,
		Codec:               config.Codec,
		Clock:               inStep{},
	})
	if err != nil {
		destroy()
		return nil, nil, err
	}
	delegator := cacher.NewCacheDelegator(cached, s)
	var once sync.Once // subresources share storages, and each destroys them
	return delegator, func() {
		once.Do(func() {
			delegator.Stop()
			cached.Stop()
			destroy()
		})
	}, nil
}

// raw is factory.Create for a client that calls.
func (c *calls) raw(config *storagebackend.ConfigForResource, prefix string, newFunc, newListFunc func() runtime.Object) (storage.Interface, factory.DestroyFunc, error) {
	client, err := c.store.Client()
	if err != nil {
		return nil, nil, err
	}
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	decoder := etcd3.NewDefaultDecoder(config.Codec, storage.APIObjectVersioner{})
	unsafe := utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
	if unsafe {
		transformer = etcd3.WithCorruptObjErrorHandlingTransformer(transformer)
		decoder = etcd3.WithCorruptObjErrorHandlingDecoder(decoder)
	}
	store, err := etcd3.New(client, c.compactor, config.Codec, newFunc, newListFunc, config.Prefix, prefix, config.GroupResource,
		transformer, config.LeaseManagerConfig, decoder, storage.APIObjectVersioner{})
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	var s storage.Interface = store
	if unsafe {
		s = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(s, config.GroupResource)
	}
	s = telling{s, c.store}
	if c.encryption != nil && config.GroupResource == secrets {
		s = noting{s, c.encryption}
	}
	var once sync.Once
	return s, func() {
		once.Do(func() {
			store.Close()
			client.Close()
		})
	}, nil
}

// telling hands on a watcher's wish for progress notifications, which the
// client can not see.
type telling struct {
	storage.Interface
	store Datastore
}

// Watch implements storage.Interface.
func (t telling) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	if opts.ProgressNotify {
		ctx = t.store.WithProgressNotify(ctx)
	}
	return t.Interface.Watch(ctx, key, opts)
}
