package snapshot

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// connect makes a client for a host's API, from the machine.
func connect(t testing.TB, h *framework.Host) kubernetes.Interface {
	t.Helper()
	cfg, err := clientcmd.RESTConfigFromKubeConfig([]byte(h.ReadFile(t, "/etc/skiff/kubeconfig.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.QPS = "https://"+net.JoinHostPort(h.Address().String(), "6443"), -1
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load is writers that make one numbered ConfigMap after the other.
type load struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked []int // by writer: how many were acknowledged
	moved chan struct{}
}

const writers = 4

func startLoad(t testing.TB, c kubernetes.Interface) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, acked: make([]int, writers), moved: make(chan struct{}, 1)}
	for w := range writers {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("load-%d-%d", w, n)}, Data: map[string]string{"n": fmt.Sprint(n)},
				}, metav1.CreateOptions{})
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("a write beside a snapshot failed: %v", err)
					}
					return
				}
				l.mu.Lock()
				l.acked[w] = n + 1
				l.mu.Unlock()
				select {
				case l.moved <- struct{}{}:
				default:
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) counts() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.acked...)
}

// await waits until every writer has written so many.
func (l *load) await(t testing.TB, each int) {
	t.Helper()
	for {
		least := each
		for _, n := range l.counts() {
			least = min(least, n)
		}
		if least >= each {
			return
		}
		select {
		case <-l.moved:
		case <-t.Context().Done():
			t.Fatal("the writers do not get on")
		}
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// checkLoad says whether a cluster has the beginning of what each writer wrote,
// without gaps, and at least what was acknowledged before the snapshot.
func checkLoad(t testing.TB, c kubernetes.Interface, before, after []int) {
	t.Helper()
	list, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, m := range list.Items {
		have[m.Name] = true
	}
	for w := range writers {
		n := 0
		for have[fmt.Sprintf("load-%d-%d", w, n)] {
			delete(have, fmt.Sprintf("load-%d-%d", w, n))
			n++
		}
		// One more may have been on its way.
		if n < before[w] || n > after[w]+1 {
			t.Errorf("of writer %d there are %d; %d were acknowledged before the snapshot, %d after it", w, n, before[w], after[w])
		}
	}
	delete(have, "kube-root-ca.crt")
	if len(have) > 0 {
		t.Errorf("there are writes whose predecessors are missing: %v", have)
	}
}
