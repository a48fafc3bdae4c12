package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// looksAgain is how often places are looked at where nothing was changed
// through this Keeper: somebody may have moved files.
const looksAgain = time.Hour

// pollServed is the pause between looks at whether the type is served.
const pollServed = 200 * time.Millisecond

// retryObjects is the pause after a failure.
const retryObjects = time.Minute

// objects shows snapshots in the cluster.
type objects struct {
	keeper *Keeper
	client dynamic.Interface
	log    *logrus.Entry
	// defined says that the cluster knows the type.
	defined bool
}

// NewObjects makes the component that shows a Keeper's snapshots in the
// cluster, as objects of the type snapshots.skiff.io. The type is defined when
// there is a first one to show. client needs what ClusterRules say.
func NewObjects(k *Keeper, client *rest.Config, log *logrus.Entry) (component.Component, error) {
	c, err := dynamic.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("the client that shows snapshots: %w", err)
	}
	o := &objects{keeper: k, client: c, log: log}
	return component.Func("snapshot-objects", func(ctx context.Context, ready func()) error {
		ready()
		o.run(ctx)
		return nil
	}), nil
}

// ClusterRules are what its identity needs in the whole cluster.
func ClusterRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{"get", "list", "create", "update", "delete"}},
		{APIGroups: []string{definitions.Group}, Resources: []string{definitions.Resource}, Verbs: []string{"create"}},
		{APIGroups: []string{definitions.Group}, Resources: []string{definitions.Resource}, ResourceNames: []string{definitionName}, Verbs: []string{"get", "update"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}},
	}
}

// SystemRules are what it needs in kube-system: the Secret with the settings of
// a bucket.
func SystemRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}}
}

func (o *objects) run(ctx context.Context) {
	for {
		pause := looksAgain
		if err := o.reconcile(ctx); err != nil && ctx.Err() == nil {
			o.log.WithError(err).Warn("The snapshots cannot be shown in the cluster; trying again")
			pause = retryObjects
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-o.keeper.changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

var snapshots = schema.GroupVersionResource{Group: group, Version: version, Resource: resource}

// reconcile makes the objects those of the snapshots that there are. What is in
// another server's directory is that server's to show; S3 is everybody's.
func (o *objects) reconcile(ctx context.Context) error {
	infos, failed := o.keeper.List(ctx)
	if len(infos) == 0 && !o.defined {
		if failed != nil {
			return failed
		}
		// Without snapshots there is nothing to define, but there may be
		// objects of those that are gone.
		if _, err := o.client.Resource(definitions).Get(ctx, definitionName, metav1.GetOptions{}); err != nil {
			return ignoreNotFound(err)
		}
	}
	if err := o.define(ctx); err != nil {
		return err
	}
	api := o.client.Resource(snapshots)
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing the objects of snapshots: %w", err)
	}
	have := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		have[list.Items[i].GetName()] = &list.Items[i]
	}
	for _, i := range infos {
		object := o.object(i)
		if err := o.put(ctx, object, have[object.GetName()]); err != nil {
			return err
		}
		delete(have, object.GetName())
	}
	for name, object := range have {
		if !o.mine(object, failed != nil) {
			continue
		}
		if err := api.Delete(ctx, name, metav1.DeleteOptions{}); ignoreNotFound(err) != nil {
			return fmt.Errorf("deleting the object of a snapshot that is gone: %w", err)
		}
	}
	return failed
}

// mine says whether an object without a snapshot is to be deleted by this server.
func (o *objects) mine(object *unstructured.Unstructured, incomplete bool) bool {
	place, _, _ := unstructured.NestedString(object.Object, "spec", "place")
	server, _, _ := unstructured.NestedString(object.Object, "spec", "server")
	if Place(place) == S3 {
		return o.keeper.cfg.Remote != nil && !incomplete
	}
	return server == o.keeper.cfg.About.Node
}

func (o *objects) put(ctx context.Context, want, have *unstructured.Unstructured) error {
	api := o.client.Resource(snapshots)
	var err error
	switch {
	case have == nil:
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			err = nil // another server was faster
		}
	case !same(want.Object["spec"], have.Object["spec"]):
		want.SetResourceVersion(have.GetResourceVersion())
		_, err = api.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("showing the snapshot %s: %w", want.GetName(), err)
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// object shows one copy.
func (o *objects) object(i Info) *unstructured.Unstructured {
	spec := map[string]any{
		"snapshot": i.Name, "place": string(i.Place), "location": i.Location,
		"size": i.Size, "created": i.Created.UTC().Format(time.RFC3339),
	}
	if i.Place == Local {
		spec["server"] = o.keeper.cfg.About.Node
	}
	if i.Node != "" {
		spec["node"] = i.Node
	}
	if i.Problem != "" {
		spec["problem"] = i.Problem
	}
	if m := i.Metadata; m != nil {
		spec["skiff"], spec["kubernetes"], spec["datastore"] = m.Skiff, m.Kubernetes, m.Datastore
		spec["revision"], spec["keys"] = m.Revision, m.Keys
	}
	name := string(i.Place) + "-" + i.Name
	if i.Place == Local {
		name += "-" + o.keeper.cfg.About.Node // a copy may be on several servers
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": group + "/" + version, "kind": kind,
		"metadata": map[string]any{"name": objectName(name)}, "spec": spec,
	}}
}

var notInNames = regexp.MustCompile(`[^a-z0-9.-]+`)

// objectName makes any name one of an object. Where that changes it, a hash
// keeps it apart from others.
func objectName(name string) string {
	clean := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-.")
	if clean == name && len(clean) <= 253 {
		return clean
	}
	sum := sha256.Sum256([]byte(name))
	return clean[:min(len(clean), 230)] + "-" + hex.EncodeToString(sum[:4])
}

func same(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
