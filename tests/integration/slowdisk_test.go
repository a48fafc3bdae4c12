package integration

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// TestAServerOutlivesASlowDisk has every flush of the disk take seconds, which a
// worn SD card does. The server goes on, reads do not wait for it, the log is not
// filled with it, and all is as before afterwards.
func TestAServerOutlivesASlowDisk(t *testing.T) {
	t.Parallel()
	const (
		flush    = 4 * time.Second
		slow     = 45 * time.Second
		messages = 150 // one warning a second and some
	)
	disk := newForgetfulDisk(t)
	h := suite.NewHost(t, nshost.Bind{Source: disk.at, Target: "/var/lib/skiff"})
	server := h.StartServer(t, "--disable-agent")
	server.AwaitAPI(t)
	before := len(server.Logs())

	ctx, end := context.WithTimeout(t.Context(), slow)
	defer end()
	disk.Slow(flush)
	var written, failed atomic.Int64
	writers := make(chan struct{})
	maps := client(t, h).CoreV1().ConfigMaps("default")
	for range 8 {
		go func() {
			defer func() { writers <- struct{}{} }()
			for ctx.Err() == nil {
				if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "slow-"}}, metav1.CreateOptions{}); err == nil {
					written.Add(1)
				} else if ctx.Err() == nil {
					failed.Add(1)
				}
			}
		}()
	}
	// Reads that waited for flushes would be a dozen in all this time.
	reads := 0
	for reads < 100 && ctx.Err() == nil {
		if _, err := maps.Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err == nil {
			reads++
		}
	}
	if reads < 100 {
		t.Errorf("only %d reads in %v", reads, slow)
	}
	for range 8 {
		<-writers
	}
	disk.Slow(0)
	t.Logf("%d writes succeeded meanwhile, %d failed", written.Load(), failed.Load())
	if written.Load() == 0 {
		t.Error("no write succeeded on the slow disk")
	}
	said := server.Logs()[before:]
	if n := strings.Count(said, "\n"); n > messages {
		t.Errorf("%d messages in %v, at most %d are well:\n%s", n, slow, messages, said)
	}
	select {
	case <-server.Done():
		t.Fatalf("the server has ended:\n%s", said)
	default:
	}
	server.AwaitAPI(t)
	h.Kubectl(t, "create", "deployment", "after", "--image=nothing")
	h.Kubectl(t, "wait", "--for=create", "pod", "-l", "app=after", "--timeout=60s") // controllers work
	server.MustStopCleanly(t)
}
