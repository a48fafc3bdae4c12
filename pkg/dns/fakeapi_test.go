package dns

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// fakeAPI lists and watches objects as an API server does; what it cannot do is
// left to the integration tests, which run a real one.
type fakeAPI struct {
	*httptest.Server
	open chan struct{} // requests wait until it is closed

	mu       sync.Mutex
	denied   bool
	objects  map[string]map[string]any // by resource, name
	watchers map[string][]chan watchEvent
	events   []corev1.Event
}

type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

var kinds = map[string][2]string{
	"services": {"v1", "Service"}, "namespaces": {"v1", "Namespace"}, "nodes": {"v1", "Node"},
	"configmaps": {"v1", "ConfigMap"}, "endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"},
}

func newFakeAPI(t *testing.T) *fakeAPI {
	f := &fakeAPI{open: make(chan struct{}), objects: map[string]map[string]any{}, watchers: map[string][]chan watchEvent{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fakeAPI) config() *rest.Config {
	return &rest.Config{Host: f.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-f.open:
	case <-r.Context().Done():
		return
	}
	f.mu.Lock()
	denied := f.denied
	f.mu.Unlock()
	if denied {
		http.Error(w, "no such role yet", http.StatusForbidden)
		return
	}
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		var e corev1.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		f.mu.Lock()
		f.events = append(f.events, e)
		f.mu.Unlock()
		_ = json.NewEncoder(w).Encode(e)
		return
	}
	kind := kinds[resource]
	if r.URL.Query().Get("watch") == "" {
		list := map[string]any{"apiVersion": kind[0], "kind": kind[1] + "List", "metadata": map[string]string{"resourceVersion": "1"}, "items": f.list(resource)}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	updates := make(chan watchEvent, 100)
	f.mu.Lock()
	f.watchers[resource] = append(f.watchers[resource], updates)
	f.mu.Unlock()
	encoder := json.NewEncoder(w)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range f.list(resource) {
			_ = encoder.Encode(watchEvent{"ADDED", o})
		}
		_ = encoder.Encode(watchEvent{"BOOKMARK", map[string]any{"apiVersion": kind[0], "kind": kind[1], "metadata": map[string]any{
			"resourceVersion": "1", "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}}})
	}
	for {
		w.(http.Flusher).Flush()
		select {
		case e := <-updates:
			_ = encoder.Encode(e)
		case <-r.Context().Done():
			return
		}
	}
}

// forbid makes the server refuse all requests.
func (f *fakeAPI) forbid(denied bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = denied
}

func (f *fakeAPI) list(resource string) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []any{}
	for _, o := range f.objects[resource] {
		out = append(out, o)
	}
	return out
}

// put adds or changes an object; nil removes it.
func (f *fakeAPI) put(resource, name string, o any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[resource] == nil {
		f.objects[resource] = map[string]any{}
	}
	old, was := f.objects[resource][name]
	event := watchEvent{"ADDED", o}
	switch {
	case o == nil:
		event = watchEvent{"DELETED", old}
		delete(f.objects[resource], name)
	case was:
		event.Type = "MODIFIED"
	}
	if o != nil {
		f.objects[resource][name] = o
	}
	for _, w := range f.watchers[resource] {
		w <- event
	}
}

func (f *fakeAPI) eventMessages() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, e := range f.events {
		out = append(out, e.Message)
	}
	return out
}

func typed(resource string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: kinds[resource][0], Kind: kinds[resource][1]}
}

func (f *fakeAPI) customConfig(version string, data map[string]string) {
	f.put("configmaps", CustomConfigMap, &corev1.ConfigMap{
		TypeMeta:   typed("configmaps"),
		ObjectMeta: metav1.ObjectMeta{Namespace: CustomNamespace, Name: CustomConfigMap, ResourceVersion: version},
		Data:       data,
	})
}

// cluster fills in a Service with an address, a headless one and a node.
func (f *fakeAPI) cluster() {
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "1"}
	}
	f.put("namespaces", "default", &corev1.Namespace{TypeMeta: typed("namespaces"), ObjectMeta: metav1.ObjectMeta{Name: "default", ResourceVersion: "1"}})
	f.put("services", "web", &corev1.Service{TypeMeta: typed("services"), ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{
		ClusterIP: "10.43.0.80", ClusterIPs: []string{"10.43.0.80"}, Type: corev1.ServiceTypeClusterIP,
		Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
	}})
	f.put("services", "db", &corev1.Service{TypeMeta: typed("services"), ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}, Type: corev1.ServiceTypeClusterIP,
		Ports: []corev1.ServicePort{{Name: "sql", Protocol: corev1.ProtocolTCP, Port: 5432}},
	}})
	slice := &discoveryv1.EndpointSlice{TypeMeta: typed("endpointslices"), ObjectMeta: meta("db-1"), AddressType: discoveryv1.AddressTypeIPv4}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "db"}
	name, number, protocol, hostname := "sql", int32(5432), corev1.ProtocolTCP, "db-0"
	slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.5"}, Hostname: &hostname}, {Addresses: []string{"10.42.1.6"}}}
	slice.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &protocol}}
	f.put("endpointslices", "db-1", slice)
	node := &corev1.Node{TypeMeta: typed("nodes"), ObjectMeta: metav1.ObjectMeta{Name: "edge-1", ResourceVersion: "1"}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "edge-1"}}
	f.put("nodes", "edge-1", node)
}
