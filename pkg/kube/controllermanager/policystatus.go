package controllermanager

import (
	"context"
	"fmt"
	"sync"

	apiextensionsscheme "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// policyStatus checks the types in ValidatingAdmissionPolicies. It is upstream's
// controller; what differs is that the descriptions of all types, some 5 MB,
// are made for the first policy.
type policyStatus struct {
	run     *validatingadmissionpolicystatus.Controller
	workers int
}

// Name implements app.Controller.
func (policyStatus) Name() string { return names.ValidatingAdmissionPolicyStatusController }

// Run implements app.Controller.
func (p policyStatus) Run(ctx context.Context) { p.run.Run(ctx, p.workers) }

func newPolicyStatus(cc app.ControllerContext) (app.Controller, error) {
	client, err := cc.NewClient(names.ValidatingAdmissionPolicyStatusController)
	if err != nil {
		return nil, err
	}
	types := lateTypes(func() resolver.SchemaResolver {
		return resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, scheme.Scheme, apiextensionsscheme.Scheme).
			Combine(&resolver.ClientDiscoveryResolver{Discovery: client.Discovery()})
	})
	c, err := validatingadmissionpolicystatus.NewController(
		cc.InformerFactory.Admissionregistration().V1().ValidatingAdmissionPolicies(),
		client.AdmissionregistrationV1().ValidatingAdmissionPolicies(),
		&validating.TypeChecker{SchemaResolver: types, RestMapper: cc.RESTMapper},
	)
	if err != nil {
		return nil, fmt.Errorf("building the controller of admission policies' status: %w", err)
	}
	return policyStatus{run: c, workers: int(cc.ComponentConfig.ValidatingAdmissionPolicyStatusController.ConcurrentPolicySyncs)}, nil
}

// lateResolver makes a resolver for the first question.
type lateResolver func() resolver.SchemaResolver

func lateTypes(make func() resolver.SchemaResolver) lateResolver { return sync.OnceValue(make) }

// ResolveSchema implements resolver.SchemaResolver.
func (r lateResolver) ResolveSchema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	return r().ResolveSchema(gvk)
}
