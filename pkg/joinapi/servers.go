package joinapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// servers follows at which addresses the API is served: each server writes its
// own into the EndpointSlice of the Service kubernetes.
type servers struct {
	informer cache.SharedInformer
	self     string

	mu      sync.Mutex
	now     protocol.Servers
	changed chan struct{} // closed with the next change
}

func newServers(c kubernetes.Interface, self string) *servers {
	lw := cache.NewListWatchFromClient(c.DiscoveryV1().RESTClient(), "endpointslices", metav1.NamespaceDefault,
		fields.OneTermEqualSelector(metav1.ObjectNameField, "kubernetes"))
	s := &servers{informer: cache.NewSharedInformer(lw, &discoveryv1.EndpointSlice{}, 0), self: self, changed: make(chan struct{})}
	s.set(nil)
	return s
}

// run follows until ctx ends.
func (s *servers) run(ctx context.Context) {
	update := func(obj any) {
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
			s.set(addresses(slice))
		}
	}
	// It fails only for an informer that has been started.
	_, _ = s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: update, UpdateFunc: func(_, obj any) { update(obj) },
	})
	s.informer.RunWithContext(ctx)
}

func (s *servers) synced(ctx context.Context) bool {
	return cache.WaitFor(ctx, "", s.informer.HasSyncedChecker())
}

func addresses(slice *discoveryv1.EndpointSlice) []string {
	port := 0
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil || *p.Name == "" || *p.Name == "https") {
			port = int(*p.Port)
		}
	}
	var all []string
	for _, e := range slice.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			all = append(all, net.JoinHostPort(a, strconv.Itoa(port)))
		}
	}
	return all
}

// set takes over a list; an empty one stands for this server alone, which is
// there as long as it can answer.
func (s *servers) set(list []string) {
	if len(list) == 0 {
		list = []string{s.self}
	}
	list = slices.Clone(list)
	slices.Sort(list)
	list = slices.Compact(list)
	sum := sha256.Sum256([]byte(strings.Join(list, "\n")))
	next := protocol.Servers{Servers: list, Version: hex.EncodeToString(sum[:8])}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.Version == s.now.Version {
		return
	}
	s.now = next
	s.wakeLocked()
}

// wake has those who watch look again.
func (s *servers) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *servers) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *servers) current() protocol.Servers {
	now, _ := s.watch()
	return now
}

// watch is the list and a channel that is closed when it is another.
func (s *servers) watch() (protocol.Servers, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}

// has says whether a server is at an address.
func (s *servers) has(addr netip.Addr) bool {
	return slices.ContainsFunc(s.current().Servers, func(server string) bool {
		at, err := netip.ParseAddrPort(server)
		return err == nil && at.Addr() == addr
	})
}
