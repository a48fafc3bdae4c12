package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	// serviceChanges is how many changes of each kind are made, one after the
	// other.
	serviceChanges = 5
	// changePause is how long proxies are left alone before each change: longer
	// than the least time that they keep between two syncs, 1 s by default.
	changePause = 1500 * time.Millisecond
	// restWindow is how long what the system uses at rest is watched.
	restWindow = 10 * time.Second
	// reachTimeout bounds the wait for the effect of a change.
	reachTimeout = 3 * time.Minute
	// writers is how many requests are under way when objects are made.
	writers = 16
)

// proxied is a system with many Services. All their endpoints are two listeners
// on the host, which answer with their index.
type proxied struct {
	s      system
	client kubernetes.Interface
	ports  [2]int32
	all    []proxiedService
}

type proxiedService struct {
	address string // and port
	slice   *discoveryv1.EndpointSlice
	end     int // index of its listener
}

// services makes Services on a system that was started anew, and measures at
// each number how long a change takes until a connection to the Service's
// address goes the new way, and what the system uses for it.
func services(ctx context.Context, s system, o options, record recorder) (err error) {
	client, err := again(ctx, s, o)
	if err != nil {
		return err
	}
	p := &proxied{s: s, client: client}
	for i := range p.ports {
		l, err := answer(s.Host(), byte(i))
		if err != nil {
			return err
		}
		defer l.Close()
		p.ports[i] = portOf(l)
	}
	defer func() { err = errors.Join(err, p.remove(ctx)) }()
	for _, n := range slices.Sorted(slices.Values(o.services)) {
		if err := p.at(ctx, n, record); err != nil {
			return fmt.Errorf("%d services: %w", n, err)
		}
	}
	return nil
}

// at measures with n Services.
func (p *proxied) at(ctx context.Context, n int, record recorder) error {
	id, title := fmt.Sprintf("services/%d/", n), numbered(n, "service")+": "
	more := n - len(p.all)
	begin := time.Now()
	if err := p.create(ctx, n); err != nil {
		return err
	}
	// Proxies hear of Services in their order: one of the last is the last.
	for _, last := range p.all[max(0, n-writers):] {
		if err := p.reach(ctx, last); err != nil {
			return err
		}
	}
	record(value{id + "reachable", fmt.Sprintf("%s%d more made and reachable", title, more), "s", time.Since(begin).Seconds()})
	if err := pass(ctx, p.s, changePause); err != nil {
		return err
	}
	before, err := hostTime(p.s.Host())
	if err != nil {
		return err
	}
	if err := atRest(ctx, p.s, 0, restWindow, id, title, record); err != nil {
		return err
	}
	after, err := hostTime(p.s.Host())
	if err != nil {
		return err
	}
	c := changes{p, id, title, (after - before) / restWindow.Seconds(), record}
	if err := c.measure(ctx, "moved", "endpoint moved", p.move); err != nil {
		return err
	}
	return c.measure(ctx, "new", "new service", p.add)
}

// changes measures changes beside what the system uses without them.
type changes struct {
	p         *proxied
	id, title string
	rest      float64 // seconds of CPU time a second
	record    recorder
}

// measure makes a kind of change several times, and takes the time from each
// request to the first connection that goes the new way.
func (c changes) measure(ctx context.Context, kind, what string, change func(context.Context, int) (proxiedService, error)) error {
	h := c.p.s.Host()
	before, err := hostTime(h)
	if err != nil {
		return err
	}
	begin := time.Now()
	var took []time.Duration
	for i := range serviceChanges {
		asked := time.Now()
		changed, err := change(ctx, i)
		if err != nil {
			return err
		}
		if err := c.p.reach(ctx, changed); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		took = append(took, time.Since(asked))
		if err := pass(ctx, c.p.s, changePause); err != nil {
			return err
		}
	}
	after, err := hostTime(h)
	if err != nil {
		return err
	}
	cpu := after - before - c.rest*time.Since(begin).Seconds()
	slices.Sort(took)
	id, title := c.id+kind+"/", c.title+what+": "
	c.record(value{id + "p50", title + "p50", "ms", milliseconds(took, 50)})
	c.record(value{id + "max", title + "max", "ms", milliseconds(took, 100)})
	c.record(value{id + "cpu", title + "CPU per change", "ms", 1000 * max(0, cpu) / serviceChanges})
	return nil
}

// move gives one of the Services, spread over all of them, its other endpoint.
func (p *proxied) move(ctx context.Context, i int) (proxiedService, error) {
	moved := &p.all[i*len(p.all)/serviceChanges]
	moved.end = 1 - moved.end
	moved.slice.Ports[0].Port = ptr.To(p.ports[moved.end])
	slice, err := p.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Update(ctx, moved.slice, metav1.UpdateOptions{})
	if err != nil {
		return proxiedService{}, err
	}
	moved.slice = slice
	return *moved, nil
}

// add makes one more Service.
func (p *proxied) add(ctx context.Context, _ int) (proxiedService, error) {
	if err := p.create(ctx, len(p.all)+1); err != nil {
		return proxiedService{}, err
	}
	return p.all[len(p.all)-1], nil
}

func (p *proxied) reach(ctx context.Context, service proxiedService) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return reach(ctx, p.s, service.address, byte(service.end))
}

// create makes Services until there are n, in the order in which a user and the
// controller do: the endpoints follow the Service.
func (p *proxied) create(ctx context.Context, n int) error {
	from := len(p.all)
	p.all = append(p.all, make([]proxiedService, max(0, n-from))...)
	_, err := concurrently(min(writers, n), max(0, n-from), func(i int) (err error) {
		p.all[from+i], err = p.createOne(ctx, fmt.Sprintf("many-%d", from+i))
		return err
	})
	return err
}

func (p *proxied) createOne(ctx context.Context, name string) (proxiedService, error) {
	service, err := p.client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"many": "true"}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return proxiedService{}, err
	}
	slice, err := p.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name, "many": "true"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(p.ports[0])}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{p.s.Host().Address().String()}}},
	}, metav1.CreateOptions{})
	return proxiedService{address: service.Spec.ClusterIP + ":80", slice: slice}, err
}

// remove deletes everything again.
func (p *proxied) remove(ctx context.Context) error {
	choose := metav1.ListOptions{LabelSelector: "many=true"}
	of := p.client.CoreV1().Services(metav1.NamespaceDefault)
	list, err := of.List(ctx, choose)
	if err != nil {
		return err
	}
	if _, err := concurrently(writers, len(list.Items), func(i int) error {
		return of.Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{})
	}); err != nil {
		return err
	}
	return p.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).DeleteCollection(ctx, metav1.DeleteOptions{}, choose)
}
