package dns

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
)

// CustomConfigMap holds the user's own configuration, in CustomNamespace.
const (
	CustomConfigMap = "coredns-custom"
	CustomNamespace = metav1.NamespaceSystem
)

// watchCustom calls changed with the ConfigMap whenever it may have changed,
// with nil when it is not there, until ctx ends.
func watchCustom(ctx context.Context, client corev1client.CoreV1Interface, changed func(*corev1.ConfigMap)) func() {
	lw := cache.NewListWatchFromClient(client.RESTClient(), "configmaps", CustomNamespace,
		fields.OneTermEqualSelector(metav1.ObjectNameField, CustomConfigMap))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw,
		ObjectType:    &corev1.ConfigMap{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { changed(o.(*corev1.ConfigMap)) },
			UpdateFunc: func(_, o any) { changed(o.(*corev1.ConfigMap)) },
			DeleteFunc: func(any) { changed(nil) },
		},
	})
	return func() { informer.RunWithContext(ctx) }
}

// watchNodes keeps table up to date until ctx ends.
func watchNodes(ctx context.Context, client corev1client.CoreV1Interface, table *nodes) func() {
	lw := cache.NewListWatchFromClient(client.RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything())
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw,
		ObjectType:    &corev1.Node{},
		Transform:     slimNode,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { table.set(o.(*corev1.Node).Name, o.(*corev1.Node)) },
			UpdateFunc: func(_, o any) { table.set(o.(*corev1.Node).Name, o.(*corev1.Node)) },
			DeleteFunc: func(o any) {
				if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
					table.set(name, nil)
				}
			},
		},
	})
	return func() { informer.RunWithContext(ctx) }
}

// slimNode drops what nobody here reads: a Node lists all images it has.
func slimNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	slim := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}}
	slim.Name, slim.UID, slim.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	slim.Status.Addresses = n.Status.Addresses
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			slim.Status.Conditions = []corev1.NodeCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return slim, nil
}

// reportBroken tells the owner of the ConfigMap why it is not in use: in the
// log and as an Event, one per node and text.
func reportBroken(ctx context.Context, client corev1client.EventsGetter, node string, cm *corev1.ConfigMap, why error, log *logrus.Entry) {
	log.WithError(why).Errorf("ConfigMap %s/%s is not usable; DNS goes on with the last good configuration", CustomNamespace, CustomConfigMap)
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: CustomNamespace, Name: fmt.Sprintf("%s.%x", CustomConfigMap, fingerprint(node, cm.ResourceVersion, why.Error()))},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "ConfigMap", Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion,
		},
		Type: corev1.EventTypeWarning, Reason: "InvalidDNSConfig",
		Message:        fmt.Sprintf("node %s goes on with the last good configuration: %v", node, why),
		Source:         corev1.EventSource{Component: "skiff-dns", Host: node},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: "skiff-dns", ReportingInstance: node,
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Events(CustomNamespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		log.WithError(err).Debug("Writing an Event on the ConfigMap failed")
	}
}

func fingerprint(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part + "\x00")) // a hash never fails
	}
	return h.Sum64()
}
