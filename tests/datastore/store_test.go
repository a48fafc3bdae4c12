package datastore

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/utils/clock"
)

const prefix = "test!"

// store is an API server's store on a datastore of its own.
type store struct {
	storage.Interface
	client      *kubernetes.Client
	codec       runtime.Codec
	transformer *transformer
}

// transformer can be exchanged while the store is in use, as some tests want.
type transformer struct {
	mu sync.RWMutex
	value.Transformer
}

func (t *transformer) current() value.Transformer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.Transformer
}

func (t *transformer) set(v value.Transformer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Transformer = v
}

func (t *transformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	return t.current().TransformFromStorage(ctx, data, dataCtx)
}

func (t *transformer) TransformToStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, error) {
	return t.current().TransformToStorage(ctx, data, dataCtx)
}

// UpdatePrefixTransformer implements storagetesting.InterfaceWithPrefixTransformer.
func (s *store) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	before := s.transformer.current().(*storagetesting.PrefixTransformer)
	changed := *before
	s.transformer.set(modify(&changed))
	return func() { s.transformer.set(before) }
}

// compact does to the store what the API server's compactor does.
func (s *store) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := storage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	version, _, _, err := etcd3.Compact(ctx, s.client.Client, 0, int64(revision))
	if err != nil {
		_, _, _, err = etcd3.Compact(ctx, s.client.Client, version, int64(revision))
	}
	if err != nil {
		t.Fatal(err)
	}
	for s.CompactRevision() != int64(revision) {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-t.Context().Done():
			t.Fatalf("the store does not hear of the compaction")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *store) increaseRV(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	r, err := s.client.KV.Put(ctx, "increaseRV", "ok")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// decodable checks that what is stored can be read back.
func (s *store) decodable(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	r, err := s.client.KV.Get(ctx, key)
	if err != nil || len(r.Kvs) == 0 {
		t.Fatalf("get %s: %v %v", key, r, err)
	}
	object, err := runtime.Decode(s.codec, r.Kvs[0].Value[len(prefix):])
	if err != nil {
		t.Fatal(err)
	}
	if pod := object.(*example.Pod); pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("stored with resourceVersion %q and selfLink %q", pod.ResourceVersion, pod.SelfLink)
	}
}

func newStore(t *testing.T, k kind) *store {
	t.Helper()
	client := k.client(t)
	client.KV = storagetesting.NewKVRecorder(client.KV)
	client.Kubernetes = storagetesting.NewKubernetesRecorder(client.Kubernetes)

	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	s := &store{
		client:      client,
		codec:       apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion),
		transformer: &transformer{Transformer: storagetesting.NewPrefixTransformer([]byte(prefix), false)},
	}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1
	inner, err := etcd3.New(client, compactor, s.codec,
		func() runtime.Object { return &example.Pod{} }, func() runtime.Object { return &example.PodList{} },
		"", "/pods/", schema.GroupResource{Resource: "pods"}, s.transformer, leases,
		etcd3.NewDefaultDecoder(s.codec, storage.APIObjectVersioner{}), storage.APIObjectVersioner{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inner.Close)
	s.Interface = inner
	return s
}
