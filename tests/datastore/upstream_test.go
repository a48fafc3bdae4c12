package datastore

import (
	"testing"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/features"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
)

// recorder is the store's list recorder, which RunTestList looks at.
func recorder(c *kubernetes.Client) *storagetesting.KubernetesRecorder {
	return c.Kubernetes.(*storagetesting.KubernetesRecorder)
}

// uncounted stands for upstream's check of how many requests a store sends,
// which says nothing about who answers them.
func uncounted(*testing.T, uint64, uint64) {}

// TestStoresBehaveAsOnEtcd has a process for each kind: upstream's tests change
// what exists once per process, and wait more than they work.
func TestStoresBehaveAsOnEtcd(t *testing.T) {
	if k, ok := ofThisProcess(); ok {
		storesBehaveAsOnEtcd(t, k)
		return
	}
	each(t, inProcess)
}

func storesBehaveAsOnEtcd(t *testing.T, k kind) {
	tests := []struct {
		name string
		run  func(t *testing.T, s *store)
	}{
		{"create", func(t *testing.T, s *store) { storagetesting.RunTestCreate(t.Context(), t, s, s.decodable) }},
		{"create with TTL", func(t *testing.T, s *store) { storagetesting.RunTestCreateWithTTL(t.Context(), t, s) }},
		{"create what exists", func(t *testing.T, s *store) { storagetesting.RunTestCreateWithKeyExist(t.Context(), t, s) }},
		{"get", func(t *testing.T, s *store) { storagetesting.RunTestGet(t.Context(), t, s) }},
		{"unconditional delete", func(t *testing.T, s *store) { storagetesting.RunTestUnconditionalDelete(t.Context(), t, s) }},
		{"conditional delete", func(t *testing.T, s *store) { storagetesting.RunTestConditionalDelete(t.Context(), t, s) }},
		{"delete with suggestion", func(t *testing.T, s *store) { storagetesting.RunTestDeleteWithSuggestion(t.Context(), t, s) }},
		{"delete with suggestion and conflict", func(t *testing.T, s *store) { storagetesting.RunTestDeleteWithSuggestionAndConflict(t.Context(), t, s) }},
		{"delete with conflict", func(t *testing.T, s *store) { storagetesting.RunTestDeleteWithConflict(t.Context(), t, s) }},
		{"delete with suggestion of deleted object", func(t *testing.T, s *store) {
			storagetesting.RunTestDeleteWithSuggestionOfDeletedObject(t.Context(), t, s)
		}},
		{"validate deletion with suggestion", func(t *testing.T, s *store) { storagetesting.RunTestValidateDeletionWithSuggestion(t.Context(), t, s) }},
		{"validate deletion with only suggestion valid", func(t *testing.T, s *store) {
			storagetesting.RunTestValidateDeletionWithOnlySuggestionValid(t.Context(), t, s)
		}},
		{"preconditional delete with suggestion", func(t *testing.T, s *store) {
			storagetesting.RunTestPreconditionalDeleteWithSuggestion(t.Context(), t, s)
		}},
		{"preconditional delete with only suggestion pass", func(t *testing.T, s *store) {
			storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass(t.Context(), t, s)
		}},
		{"list", func(t *testing.T, s *store) {
			storagetesting.RunTestList(t.Context(), t, s, s.compact, false, recorder(s.client))
		}},
		{"consistent list", func(t *testing.T, s *store) {
			storagetesting.RunTestConsistentList(t.Context(), t, s, s.increaseRV, false, true, false)
		}},
		{"list one", func(t *testing.T, s *store) {
			storagetesting.RunTestGetListNonRecursive(t.Context(), t, s.increaseRV, s)
		}},
		{"list a prefix", func(t *testing.T, s *store) { storagetesting.RunTestGetListRecursivePrefix(t.Context(), t, s) }},
		{"list continuation", func(t *testing.T, s *store) { storagetesting.RunTestListContinuation(t.Context(), t, s, uncounted) }},
		{"list pagination of a rare object", func(t *testing.T, s *store) {
			storagetesting.RunTestListPaginationRareObject(t.Context(), t, s, uncounted)
		}},
		{"list continuation with filter", func(t *testing.T, s *store) {
			storagetesting.RunTestListContinuationWithFilter(t.Context(), t, s, uncounted)
		}},
		{"inconsistent continuation", func(t *testing.T, s *store) {
			storagetesting.RunTestListInconsistentContinuation(t.Context(), t, s, s.compact)
		}},
		{"list by resource version", func(t *testing.T, s *store) { storagetesting.RunTestListResourceVersionMatch(t.Context(), t, s) }},
		{"list pages", func(t *testing.T, s *store) { storagetesting.RunTestListPaging(t.Context(), t, s) }},
		{"list a namespace", func(t *testing.T, s *store) { storagetesting.RunTestNamespaceScopedList(t.Context(), t, s) }},
		{"key schema", func(t *testing.T, s *store) { storagetesting.RunTestKeySchema(t.Context(), t, s) }},
		{"guaranteed update", func(t *testing.T, s *store) { storagetesting.RunTestGuaranteedUpdate(t.Context(), t, s, s.decodable) }},
		{"guaranteed update with TTL", func(t *testing.T, s *store) { storagetesting.RunTestGuaranteedUpdateWithTTL(t.Context(), t, s) }},
		{"guaranteed update checks stored data", func(t *testing.T, s *store) {
			storagetesting.RunTestGuaranteedUpdateChecksStoredData(t.Context(), t, s)
		}},
		{"guaranteed update with conflict", func(t *testing.T, s *store) { storagetesting.RunTestGuaranteedUpdateWithConflict(t.Context(), t, s) }},
		{"guaranteed update with suggestion and conflict", func(t *testing.T, s *store) {
			storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict(t.Context(), t, s)
		}},
		{"transformation failure", func(t *testing.T, s *store) { storagetesting.RunTestTransformationFailure(t.Context(), t, s) }},
		{"statistics", func(t *testing.T, s *store) {
			storagetesting.RunTestStats(t.Context(), t, s, s.codec, s.transformer, false)
		}},
		{"compact revision", func(t *testing.T, s *store) {
			storagetesting.RunTestCompactRevision(t.Context(), t, s, s.increaseRV, s.compact)
		}},
		{"watch", func(t *testing.T, s *store) { storagetesting.RunTestWatch(t.Context(), t, s) }},
		{"watch cluster scoped", func(t *testing.T, s *store) { storagetesting.RunTestClusterScopedWatch(t.Context(), t, s) }},
		{"watch namespace scoped", func(t *testing.T, s *store) { storagetesting.RunTestNamespaceScopedWatch(t.Context(), t, s) }},
		{"watch deletes", func(t *testing.T, s *store) { storagetesting.RunTestDeleteTriggerWatch(t.Context(), t, s) }},
		{"watch from zero", func(t *testing.T, s *store) { storagetesting.RunTestWatchFromZero(t.Context(), t, s, s.compact) }},
		{"watch from non-zero", func(t *testing.T, s *store) { storagetesting.RunTestWatchFromNonZero(t.Context(), t, s) }},
		{"delayed watch delivery", func(t *testing.T, s *store) { storagetesting.RunTestDelayedWatchDelivery(t.Context(), t, s) }},
		{"watch error", func(t *testing.T, s *store) { storagetesting.RunTestWatchError(t.Context(), t, s) }},
		{"watch context cancel", func(t *testing.T, s *store) { storagetesting.RunTestWatchContextCancel(t.Context(), t, s) }},
		{"watcher timeout", func(t *testing.T, s *store) { storagetesting.RunTestWatcherTimeout(t.Context(), t, s) }},
		{"watch delete has latest revision", func(t *testing.T, s *store) {
			storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV(t.Context(), t, s)
		}},
		{"watch initialization signal", func(t *testing.T, s *store) { storagetesting.RunTestWatchInitializationSignal(t.Context(), t, s) }},
		{"watch bookmarks", func(t *testing.T, s *store) {
			storagetesting.RunTestWatchDispatchBookmarkEvents(t.Context(), t, s, false)
		}},
		{"initial events, old clients", func(t *testing.T, s *store) {
			storagetesting.RunSendInitialEventsBackwardCompatibility(t.Context(), t, s)
		}},
		{"watch semantics", func(t *testing.T, s *store) { storagetesting.RunWatchSemantics(t.Context(), t, s) }},
		{"initial events, extended", func(t *testing.T, s *store) { storagetesting.RunWatchSemanticInitialEventsExtended(t.Context(), t, s) }},
		{"watch-list of one", func(t *testing.T, s *store) { storagetesting.RunWatchListMatchSingle(t.Context(), t, s) }},
		{"watch error blocks further events", func(t *testing.T, s *store) {
			storagetesting.RunWatchErrorIsBlockingFurtherEvents(t.Context(), t, s)
		}},
	}
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.ListFromCacheSnapshot, true)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, newStore(t, k))
		})
	}
}
