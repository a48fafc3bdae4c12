package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// nodesPrefix is where it is noted which members have had a Node, beside the
// API's objects. Servers without a node part have none and stay.
const nodesPrefix = "/skiff/etcd/nodes/"

// nodesInterval is how often members and Nodes are compared without news.
const nodesInterval = 30 * time.Second

// KeeperRules are what the keeper's client may do.
func KeeperRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}}}
}

// keeper takes members off the list whose Node was removed.
type keeper struct {
	m      *Member
	client kubernetes.Interface
	nodes  listers.NodeLister
	log    *logrus.Entry
	kv     *clientv3.Client
	noted  map[string]bool
}

// NewKeeper makes the component that takes members off the list whose Node was
// removed. It is to run on one server at a time.
func NewKeeper(m *Member, client *rest.Config, log *logrus.Entry) (component.Component, error) {
	c, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the client that keeps the members: %w", err)
	}
	k := &keeper{m: m, client: c, log: log}
	return component.Func("etcd-members", k.run), nil
}

func (k *keeper) run(ctx context.Context, ready func()) error {
	kv, err := k.m.Client()
	if err != nil {
		return err
	}
	defer kv.Close()
	k.kv = kv.Client
	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTransform(nameOnly))
	nodes := factory.Core().V1().Nodes()
	k.nodes = nodes.Lister()
	news := make(chan struct{}, 1)
	tell := func(any) {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	// It fails only for an informer that has been started.
	_, _ = nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: tell, DeleteFunc: tell})
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	ready()
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return nil
	}
	ticker := time.NewTicker(nodesInterval)
	defer ticker.Stop()
	for {
		if err := k.compare(ctx); err != nil && ctx.Err() == nil {
			k.log.WithError(err).Warn("Comparing the members with the Nodes failed, will try again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-ticker.C:
		}
	}
}

// nameOnly drops what nobody here reads.
func nameOnly(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	s := &corev1.Node{}
	s.Name, s.UID, s.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	return s, nil
}

func (k *keeper) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodesInterval)
	defer cancel()
	if err := k.readNotes(ctx); err != nil {
		return err
	}
	members := k.m.Nodes()
	for _, name := range members {
		_, err := k.nodes.Get(name)
		switch {
		case err == nil && !k.noted[name]:
			if _, err := k.kv.Put(ctx, nodesPrefix+name, ""); err != nil {
				return fmt.Errorf("noting that the member of %s has a Node: %w", name, err)
			}
			k.noted[name] = true
		case apierrors.IsNotFound(err) && k.noted[name]:
			if err := k.m.Remove(ctx, name); err != nil {
				return fmt.Errorf("the Node %s was removed, its member of etcd is still there: %w", name, err)
			}
			k.log.Warnf("The Node %s was removed, and so was its member of etcd", name)
		}
	}
	for name := range k.noted {
		if slices.Contains(k.m.Nodes(), name) {
			continue
		}
		if _, err := k.kv.Delete(ctx, nodesPrefix+name); err != nil {
			return fmt.Errorf("forgetting the member of %s: %w", name, err)
		}
		delete(k.noted, name)
	}
	return nil
}

// readNotes reads them once; this server alone writes them while it leads.
func (k *keeper) readNotes(ctx context.Context) error {
	if k.noted != nil {
		return nil
	}
	r, err := k.kv.Get(ctx, nodesPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("reading which members had a Node: %w", err)
	}
	k.noted = map[string]bool{}
	for _, kv := range r.Kvs {
		k.noted[strings.TrimPrefix(string(kv.Key), nodesPrefix)] = true
	}
	return nil
}
