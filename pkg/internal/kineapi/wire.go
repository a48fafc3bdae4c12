package kineapi

import (
	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// compactKeyAPI is the API server's key for its compactions, which kine's own
// has taken.
const compactKeyAPI = "compact_rev_key"

// CompactKeyStored is what kine stores the API server's key for its compactions
// under.
const CompactKeyStored = "compact_rev_key_apiserver"

// StoredKey is the name under which a client's key is stored.
func StoredKey[K string | []byte](key K) string {
	if string(key) == compactKeyAPI {
		return CompactKeyStored
	}
	return string(key)
}

// WireKV is a key and its value as etcd's API has it, nil for nil.
func WireKV(kv *server.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	m := &mvccpb.KeyValue{
		Key: []byte(kv.Key), Value: kv.Value, Version: kv.Version, Lease: kv.Lease,
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
	}
	if kv.Key == CompactKeyStored {
		m.Key = []byte(compactKeyAPI)
		m.Version, m.Value = server.DecodeVersion(kv.Value)
	}
	return m
}

// WireEvent is an event as etcd's API has it, with the value before if wanted.
func WireEvent(e *server.Event, prevKV bool) *mvccpb.Event {
	m := &mvccpb.Event{Type: mvccpb.PUT, Kv: WireKV(e.KV)}
	if e.Delete {
		m.Type = mvccpb.DELETE
	}
	if prevKV && !e.Create {
		m.PrevKv = WireKV(e.PrevKV)
	}
	return m
}
