// Package cloudcontroller is what a cloud's controller manager does for nodes:
// it gives them the addresses that their kubelets do not know, and a provider
// ID, and lets pods onto them then. The controller is upstream's; the cloud are
// the agents, who annotate their nodes. The wiring imports it.
package cloudcontroller

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/cloud-provider/controllers/node"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// reconcileInterval is how often all nodes are compared with their annotations,
// from memory. Changes of addresses are rare: an agent is restarted for them.
const reconcileInterval = time.Minute

// New makes the component. client may do what Rules say.
func New(client *rest.Config, log *logrus.Entry) component.Component {
	return component.Func("cloud-controller", func(ctx context.Context, ready func()) error {
		c, err := kubernetes.NewForConfig(client)
		if err != nil {
			return fmt.Errorf("the cloud controller's client: %w", err)
		}
		factory := informers.NewSharedInformerFactory(c, 0)
		controller, err := cloudNodes(factory, c)
		if err != nil {
			return err
		}
		factory.Start(ctx.Done())
		defer factory.Shutdown()
		ready()
		controller.RunWithContext(ctx, controllersmetrics.NewControllerManagerMetrics("skiff"))
		return nil
	})
}

func cloudNodes(factory informers.SharedInformerFactory, c kubernetes.Interface) (*node.CloudNodeController, error) {
	controller, err := node.NewCloudNodeController(factory.Core().V1().Nodes(), c, provider{}, reconcileInterval, 1, 1)
	if err != nil {
		return nil, fmt.Errorf("making the cloud controller: %w", err)
	}
	return controller, nil
}

// Rules are what the controller needs, in all namespaces.
func Rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch", "update", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch", "update"}},
	}
}
