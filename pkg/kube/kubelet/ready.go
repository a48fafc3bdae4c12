package kubelet

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// ReadyComponent is the name of the component that NewReadiness makes.
const ReadyComponent = "node"

// NewReadiness makes a component that is ready once the Node has the condition
// Ready: pods can run. It does nothing else. client may read the Node.
func NewReadiness(nodeName string, client *rest.Config) component.Component {
	return await(ReadyComponent, client, func(ctx context.Context, c kubernetes.Interface) error {
		return awaitNode(ctx, c, nodeName, nodeReady)
	})
}

// NewAPI makes a component that is ready once a server has answered a question
// about the node, whether or not there is such a Node yet. client-go asks again
// and again, with growing pauses.
func NewAPI(name, nodeName string, client *rest.Config) component.Component {
	return await(name, client, func(ctx context.Context, c kubernetes.Interface) error {
		answered := func(cache.Store) (bool, error) { return true, nil }
		if _, err := watchtools.UntilWithSync(ctx, ownNode(c, nodeName), &corev1.Node{}, answered); err != nil {
			return fmt.Errorf("waiting for the API: %w", err)
		}
		return nil
	})
}

// await makes a component that is ready once wait has returned.
func await(name string, client *rest.Config, wait func(context.Context, kubernetes.Interface) error) component.Component {
	return component.Func(name, func(ctx context.Context, ready func()) error {
		c, err := kubernetes.NewForConfig(client)
		if err != nil {
			return fmt.Errorf("the client that watches the node: %w", err)
		}
		switch err := wait(ctx, c); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		ready()
		<-ctx.Done()
		return nil
	})
}

func registered(*corev1.Node) bool { return true }

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func ownNode(client kubernetes.Interface, name string) cache.ListerWatcher {
	return cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	})
}

// awaitNode returns nil when the Node meets the condition.
func awaitNode(ctx context.Context, client kubernetes.Interface, name string, met func(*corev1.Node) bool) error {
	_, err := watchtools.UntilWithSync(ctx, ownNode(client, name), &corev1.Node{}, nil, func(e watch.Event) (bool, error) {
		n, ok := e.Object.(*corev1.Node)
		return ok && e.Type != watch.Deleted && met(n), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for node %s: %w", name, err)
	}
	return nil
}
