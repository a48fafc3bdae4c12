package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// request and answer are one operation on a key as a client sees it. An answer
// without a revision says that the key is not there.
type request struct {
	op       string // "get", "write" when the key has this revision, "delete" likewise
	key      string
	revision int64
}

type answer struct {
	ok       bool
	revision int64 // of the key, afterwards
}

// keyModel is a key whose writers name the revision that they replace.
var keyModel = porcupine.Model{
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
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(int64), input.(request), output.(answer)
		if in.op == "get" || !out.ok {
			return out.revision == now && (in.op == "get" || in.revision != now), now
		}
		if in.revision != now {
			return false, now
		}
		if in.op == "delete" {
			return true, int64(0)
		}
		return out.revision > now, out.revision
	},
}

func TestHistoriesAreLinearizable(t *testing.T) { eachClient(t, checkHistories) }

func checkHistories(t *testing.T, d *instance) {
	const clients, operations, keys = 8, 150, 4
	began := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(id)))
			known := map[string]int64{}
			for range operations {
				in := request{op: []string{"get", "write", "write", "delete"}[random.IntN(4)], key: fmt.Sprintf("/k/%d", random.IntN(keys))}
				in.revision = known[in.key]
				if in.op == "delete" && in.revision == 0 {
					in.op = "get"
				}
				called := time.Since(began)
				out, err := in.send(t.Context(), d.kube)
				if err != nil {
					t.Error(err)
					return
				}
				known[in.key] = out.revision
				mu.Lock()
				history = append(history, porcupine.Operation{
					ClientId: id, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(began)),
				})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if result := porcupine.CheckOperationsTimeout(keyModel, history, time.Minute); result != porcupine.Ok {
		t.Errorf("%d operations: %s", len(history), result)
	}
}

func (r request) send(ctx context.Context, c kubernetes.Interface) (answer, error) {
	switch r.op {
	case "get":
		m, err := c.Get(ctx, r.key, kubernetes.GetOptions{})
		return answer{ok: true, revision: at(m.KV)}, err
	case "delete":
		m, err := c.OptimisticDelete(ctx, r.key, r.revision, kubernetes.DeleteOptions{GetOnFailure: true})
		return answer{ok: m.Succeeded, revision: at(m.KV)}, err
	}
	m, err := c.OptimisticPut(ctx, r.key, []byte("v"), r.revision, kubernetes.PutOptions{GetOnFailure: true})
	if err == nil && m.Succeeded {
		return answer{ok: true, revision: m.Revision}, nil
	}
	return answer{revision: at(m.KV)}, err
}

// at is a key's revision, 0 when it is not there.
func at(kv *mvccpb.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.ModRevision
}
