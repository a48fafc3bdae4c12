package snapshot

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	group          = "skiff.io"
	version        = "v1"
	kind           = "Snapshot"
	resource       = "snapshots"
	definitionName = resource + "." + group
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// errNotServed says that the API server has not begun to serve the type.
var errNotServed = errors.New("the type " + definitionName + " is not served yet")

// define makes the cluster know the type.
func (o *objects) define(ctx context.Context) error {
	if o.defined {
		return nil
	}
	api := o.client.Resource(definitions)
	_, err := api.Create(ctx, definition(), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("defining %s: %w", definitionName, err)
	}
	_, err = o.client.Resource(snapshots).List(ctx, metav1.ListOptions{Limit: 1})
	for apierrors.IsNotFound(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) {
		if !wait(ctx, pollServed) {
			return ctx.Err()
		}
		_, err = o.client.Resource(snapshots).List(ctx, metav1.ListOptions{Limit: 1})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotServed, err)
	}
	o.defined = true
	return nil
}

// definition describes the type. Objects only show what there is: nothing reads
// them, so there is no status beside the spec.
func definition() *unstructured.Unstructured {
	text := func(about string) any { return map[string]any{"type": "string", "description": about} }
	number := func(about string) any {
		return map[string]any{"type": "integer", "format": "int64", "description": about}
	}
	column := func(name, kind, path string, priority int64) any {
		return map[string]any{"name": name, "type": kind, "jsonPath": ".spec." + path, "priority": priority}
	}
	properties := map[string]any{
		"snapshot":   text("The snapshot's name, for skiff snapshot restore."),
		"place":      map[string]any{"type": "string", "description": "Where this copy is.", "enum": []any{string(Local), string(S3)}},
		"location":   text("The file's path on the server, or its URL."),
		"server":     text("The server that has the file; empty for S3."),
		"node":       text("The server that made it."),
		"size":       number("Bytes of the file."),
		"created":    map[string]any{"type": "string", "format": "date-time", "description": "When it was made."},
		"revision":   number("The datastore's revision of which it is."),
		"keys":       number("How many keys it has."),
		"skiff":      text("The version of Skiff that made it."),
		"kubernetes": text("The version of Kubernetes that made it."),
		"datastore":  text("The kind of datastore of which it is."),
		"problem":    text("Why the file is of no use, if it is not."),
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": definitionName},
		"spec": map[string]any{
			"group": group, "scope": "Cluster",
			"names": map[string]any{"kind": kind, "listKind": kind + "List", "plural": resource, "singular": "snapshot"},
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type":        "object",
					"description": "A copy of the cluster's state. The object shows a file and follows it: deleting the object does not delete the file, skiff snapshot delete does.",
					"properties":  map[string]any{"spec": map[string]any{"type": "object", "properties": properties}},
				}},
				"additionalPrinterColumns": []any{
					column("Place", "string", "place", 0), column("Server", "string", "server", 0), column("Size", "integer", "size", 0),
					column("Created", "date", "created", 0), column("Problem", "string", "problem", 0), column("Location", "string", "location", 1),
				},
			}},
		},
	}}
}
