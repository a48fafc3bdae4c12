package snapshot

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// eventTimeout bounds what telling of a failure may take.
const eventTimeout = 10 * time.Second

// TellNode gives the function by which a schedule tells of a failure: by an
// event of the server's Node.
func TellNode(client kubernetes.Interface, node string) func(context.Context, error) {
	return func(ctx context.Context, failure error) {
		ctx, cancel := context.WithTimeout(ctx, eventTimeout)
		defer cancel()
		now := metav1.Now()
		message := fmt.Sprintf("The scheduled snapshot failed: %v", failure)
		// Without an answer the log has it nevertheless.
		_, _ = client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{GenerateName: "snapshot-failed-"},
			InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: node, APIVersion: "v1"},
			Type:           corev1.EventTypeWarning, Reason: "SnapshotFailed", Message: message[:min(len(message), 1024)],
			Source:         corev1.EventSource{Component: "skiff", Host: node},
			FirstTimestamp: now, LastTimestamp: now, Count: 1,
		}, metav1.CreateOptions{})
	}
}
