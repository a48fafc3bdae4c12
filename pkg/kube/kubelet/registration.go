package kubelet

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Registration is what a node's own kubelet does not say of it.
type Registration struct {
	NodeName string
	// Labels that NodeRestriction keeps from kubelets, such as roles.
	Labels map[string]string
	// Annotations for controllers; nil takes one away.
	Annotations map[string]*string
}

// NewRegistration makes a component that completes the Node object once the
// kubelet has made it. client may patch the Node.
func NewRegistration(r Registration, client *rest.Config, log *logrus.Entry) component.Component {
	return component.Func("node-registration", func(ctx context.Context, ready func()) error {
		c, err := kubernetes.NewForConfig(client)
		if err != nil {
			return fmt.Errorf("the client that completes the node: %w", err)
		}
		node, err := c.CoreV1().Nodes().Get(ctx, r.NodeName, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("reading node %s: %w", r.NodeName, err)
		}
		if err := r.complete(ctx, c, node); err != nil {
			return err
		}
		ready()
		<-ctx.Done()
		return nil
	})
}

// complete patches what is missing, in one request and only if anything is.
func (r Registration) complete(ctx context.Context, c kubernetes.Interface, node *corev1.Node) error {
	labels, annotations := map[string]string{}, map[string]*string{}
	for k, v := range r.Labels {
		if have, ok := node.Labels[k]; !ok || have != v {
			labels[k] = v
		}
	}
	for k, v := range r.Annotations {
		have, ok := node.Annotations[k]
		if ok != (v != nil) || ok && have != *v {
			annotations[k] = v
		}
	}
	if len(labels)+len(annotations) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}})
	if err != nil {
		return fmt.Errorf("encoding a patch of node %s: %w", r.NodeName, err)
	}
	if _, err := c.CoreV1().Nodes().Patch(ctx, r.NodeName, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("labelling node %s: %w", r.NodeName, err)
	}
	return nil
}
