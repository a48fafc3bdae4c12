package servers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// request and answer are one operation on an object as a client sees it: it
// reads the value, or replaces the one that it knows.
type request struct {
	key      string
	read     bool
	old, new string
}

type answer struct {
	value   string // of a read
	done    bool   // of a write; false: the value was another one
	unknown bool   // whether the write was done or not
}

// objectModel is an object whose writers name the version that they replace. A
// write without an answer may have happened or not.
var objectModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(request).key
			byKey[key] = append(byKey[key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{"0"} },
	Step: func(state, input, output any) []any {
		now, in, out := state.(string), input.(request), output.(answer)
		switch {
		case in.read:
			return keepIf(out.value == now, now)
		case out.unknown && in.old == now:
			return []any{now, in.new}
		case out.unknown:
			return []any{now}
		case out.done:
			return keepIf(in.old == now, in.new)
		}
		return keepIf(in.old != now, now)
	},
}

func keepIf(ok bool, state string) []any {
	if ok {
		return []any{state}
	}
	return nil
}

const (
	loadKeys = 4
	// requestTimeout is when a client tries another server.
	requestTimeout = 3 * time.Second
)

// load are clients that read and write, and what they have seen.
type load struct {
	servers []*kubernetes.Clientset
	begin   time.Time
	end     context.CancelFunc
	clients sync.WaitGroup

	mu      sync.Mutex
	history []porcupine.Operation
	made    []string             // objects whose creation was acknowledged
	wrote   map[string]time.Time // the begin of the latest operation that succeeded, by its kind
}

// apiOf reaches the API of a server as the administrator of the cluster.
func apiOf(t *testing.T, h *framework.Host) *kubernetes.Clientset {
	t.Helper()
	path := t.TempDir() + "/kubeconfig"
	content := strings.ReplaceAll(h.ReadFile(t, "/etc/skiff/kubeconfig.yaml"), "127.0.0.1", h.Address().String())
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst, config.Timeout = -1, -1, requestTimeout
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keyName(i int) string { return fmt.Sprint("register-", i) }

// startLoad makes the objects and starts two clients.
func startLoad(t *testing.T, hosts ...*framework.Host) *load {
	t.Helper()
	l := &load{begin: time.Now(), wrote: map[string]time.Time{}}
	for _, h := range hosts {
		l.servers = append(l.servers, apiOf(t, h))
	}
	for i := range loadKeys {
		o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: keyName(i)}, Data: map[string]string{"value": "0"}}
		if _, err := l.servers[0].CoreV1().ConfigMaps("default").Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	l.end = end
	for id := range 2 {
		l.clients.Go(func() { l.work(ctx, id) })
	}
	return l
}

// work is one client: it goes to another server when one does not answer.
func (l *load) work(ctx context.Context, id int) {
	server := id
	known := map[string]*corev1.ConfigMap{}
	for n := 0; ctx.Err() == nil; n++ {
		api := l.servers[server%len(l.servers)].CoreV1().ConfigMaps("default")
		key := keyName(rand.IntN(loadKeys))
		var err error
		switch o := known[key]; {
		case n%4 == 3:
			err = l.create(ctx, id, n, func(o *corev1.ConfigMap) error {
				_, err := api.Create(ctx, o, metav1.CreateOptions{})
				return err
			})
		case o == nil || n%2 == 0:
			err = l.do(id, request{key: key, read: true}, func() (answer, error) {
				o, err := api.Get(ctx, key, metav1.GetOptions{})
				if err == nil {
					known[key] = o
				}
				return answer{value: o.Data["value"]}, err
			})
		default:
			next := o.DeepCopy()
			next.Data["value"] = fmt.Sprintf("%d-%d", id, n)
			err = l.do(id, request{key: key, old: o.Data["value"], new: next.Data["value"]}, func() (answer, error) {
				delete(known, key)
				o, err := api.Update(ctx, next, metav1.UpdateOptions{})
				if apierrors.IsConflict(err) {
					return answer{}, nil
				}
				if err == nil {
					known[key] = o
				}
				return answer{done: true}, err
			})
		}
		if err != nil {
			server++
		}
		select { // not so many that checking them takes longer than making them
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// do notes an operation. A read without an answer says nothing; a write
// without one may happen at any time from then on.
func (l *load) do(id int, in request, try func() (answer, error)) error {
	called := time.Since(l.begin)
	out, err := try()
	returned := int64(time.Since(l.begin))
	if err != nil && in.read {
		return err
	}
	if err != nil {
		out, returned = answer{unknown: true}, math.MaxInt64
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = append(l.history, porcupine.Operation{ClientId: id, Input: in, Call: int64(called), Output: out, Return: returned})
	if err == nil {
		kind := "read"
		if out.done {
			kind = "write"
		}
		l.wrote[kind] = l.begin.Add(called)
	}
	return err
}

// create makes an object and notes it when that was acknowledged.
func (l *load) create(_ context.Context, id, n int, try func(*corev1.ConfigMap) error) error {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("made-%d-%d", id, n)}}
	err := try(o)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.made = append(l.made, o.Name)
	}
	return err
}

// recovery is within what time a cluster that has lost a server works again, as
// docs/high-availability.md says.
const recovery = 15 * time.Second

// awaitWork waits until reads and writes that began after a moment have
// succeeded, and says how long that took.
func (l *load) awaitWork(t *testing.T, what string, since time.Time) {
	t.Helper()
	framework.Eventually(t, 2*time.Minute, "reads and writes work after "+what, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, kind := range []string{"read", "write"} {
			if !l.wrote[kind].After(since) {
				return fmt.Errorf("no %s has succeeded", kind)
			}
		}
		return nil
	})
	took := time.Since(since)
	if took > recovery {
		t.Errorf("%s: it took %v until reads and writes worked again, more than %v", what, took, recovery)
	}
	t.Logf("%s: reads and writes work again after %.1f s", what, took.Seconds())
}

// stop ends the clients, reads everything once from each server, and checks all
// that was seen.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.end()
	l.clients.Wait()
	for id, server := range l.servers {
		api := server.CoreV1().ConfigMaps("default")
		for i := range loadKeys {
			var read error
			framework.Eventually(t, time.Minute, "the object is read", func() error {
				read = l.do(id+2, request{key: keyName(i), read: true}, func() (answer, error) {
					o, err := api.Get(t.Context(), keyName(i), metav1.GetOptions{})
					return answer{value: o.Data["value"]}, err
				})
				return read
			})
		}
		list, err := api.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, o := range list.Items {
			there[o.Name] = true
		}
		for _, name := range l.made {
			if !there[name] {
				t.Errorf("server %d: the creation of %s was acknowledged, and it is missing", id, name)
			}
		}
	}
	unknown := 0
	for _, o := range l.history {
		if o.Output.(answer).unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d writes without an answer, %d objects made", len(l.history), unknown, len(l.made))
	if len(l.history) < 200 || len(l.made) < 50 {
		t.Error("too few operations to say anything")
	}
	if result := porcupine.CheckOperationsTimeout(objectModel.ToModel(), l.history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is not linearisable: %v", result)
	}
}

// errNot is for conditions without more to say.
var errNot = errors.New("it is not so yet")
