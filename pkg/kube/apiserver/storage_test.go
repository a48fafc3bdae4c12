package apiserver

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// store stands for a datastore in this process; nothing is sent to it.
type store struct{ clients int }

type told struct{}

func (s *store) Client() (*kubernetes.Client, error) {
	s.clients++
	return &kubernetes.Client{Client: clientv3.NewCtxClient(context.Background())}, nil
}
func (s *store) WithProgressNotify(ctx context.Context) context.Context {
	return context.WithValue(ctx, told{}, true)
}
func (s *store) Endpoints() []string { return []string{"unix:///run/kine.sock"} }
func (s *store) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return &clientv3.StatusResponse{Version: "3.6.11"}, nil
}

func TestOtherServersThanTheDatastoreInThisProcessAreConnectedTo(t *testing.T) {
	s := &store{}
	own := EtcdConfig{Endpoints: s.Endpoints(), Datastore: s}
	tests := []struct {
		name    string
		cfg     EtcdConfig
		options func(*genericoptions.EtcdOptions)
		calls   bool
	}{
		{"the one in this process", own, func(*genericoptions.EtcdOptions) {}, true},
		{"none in this process", EtcdConfig{Endpoints: own.Endpoints}, func(*genericoptions.EtcdOptions) {}, false},
		{"the user's own", own, func(o *genericoptions.EtcdOptions) {
			o.StorageConfig.Transport.ServerList = []string{"http://etcd:2379"}
		}, false},
		{"the user's own for events", own, func(o *genericoptions.EtcdOptions) { o.EtcdServersOverrides = []string{"/events#http://etcd:2379"} }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := genericoptions.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", nil))
			o.StorageConfig.CompactionInterval = 0 // nothing is to be sent
			o.StorageConfig.Transport.ServerList = own.Endpoints
			test.options(o)
			c, err := newCalls(test.cfg, o, genericapiserver.NewConfig(legacyscheme.Codecs))
			if err != nil {
				t.Fatal(err)
			}
			if (c != nil) != test.calls {
				t.Errorf("called: %v, want %v", c != nil, test.calls)
			}
		})
	}
}

func TestResourcesAreCachedAsTheOptionsSay(t *testing.T) {
	events, pods := schema.GroupResource{Resource: "events"}, schema.GroupResource{Resource: "pods"}
	for _, test := range []struct {
		name     string
		cache    bool
		resource schema.GroupResource
		want     bool
	}{
		{"pods", true, pods, true},
		{"events are excepted", true, events, false},
		{"no cache at all", false, pods, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := calls{options: &genericoptions.EtcdOptions{EnableWatchCache: test.cache}, uncached: map[schema.GroupResource]bool{events: true}}
			if got := c.caches(test.resource); got != test.want {
				t.Errorf("cached: %v, want %v", got, test.want)
			}
		})
	}
}

// heard notes what a watch is started with.
type heard struct {
	storage.Interface
	ctx context.Context
}

func (h *heard) Watch(ctx context.Context, _ string, _ storage.ListOptions) (watch.Interface, error) {
	h.ctx = ctx
	return nil, nil
}

func TestOnlyWatchersThatWantProgressAreToldOfIt(t *testing.T) {
	for _, want := range []bool{true, false} {
		h := &heard{}
		if _, err := (telling{h, &store{}}).Watch(t.Context(), "/a", storage.ListOptions{ProgressNotify: want}); err != nil {
			t.Fatal(err)
		}
		if got, _ := h.ctx.Value(told{}).(bool); got != want {
			t.Errorf("told: %v, want %v", got, want)
		}
	}
}
