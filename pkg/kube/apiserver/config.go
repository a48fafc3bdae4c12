package apiserver

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/server/filters"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"

	"github.com/skiff-k8s/skiff/pkg/kube/inproc"
)

// newConfig assembles the three servers of the chain. It follows upstream's
// app.NewConfig with one difference in the generic part: the server's own
// clients are connected in memory, so there is no loopback certificate to make
// (an RSA key, a third of a second on small machines) and no TLS to pay for.
func newConfig(opts options.CompletedOptions, cfg Config, sb *inproc.Switchboard) (*app.Config, error) {
	generic, shared, storage, calls, err := genericConfig(opts, cfg, sb)
	if err != nil {
		return nil, err
	}
	kube, resolver, initializers, err := app.CreateKubeAPIServerConfig(opts, generic, shared, storage)
	if err != nil {
		return nil, err
	}
	cp := kube.ControlPlane
	disablePeers(cp)
	extensions, err := controlplaneapiserver.CreateAPIExtensionsConfig(*cp.Generic, cp.VersionedInformers, initializers,
		opts.CompletedOptions, opts.MasterCount, resolver,
		webhook.NewDefaultAuthenticationInfoResolverWrapper(cp.ProxyTransport, cp.Generic.EgressSelector, cp.Generic.LoopbackClientConfig, cp.Generic.TracerProvider))
	if err != nil {
		return nil, err
	}
	aggregator, err := controlplaneapiserver.CreateAggregatorConfig(*cp.Generic, opts.CompletedOptions, cp.VersionedInformers, resolver, cp.ProxyTransport, cp.Extra.PeerProxy, initializers)
	if err != nil {
		return nil, err
	}
	if calls != nil {
		extensions.GenericConfig.RESTOptionsGetter = calls.getter(extensions.GenericConfig.RESTOptionsGetter)
		extensions.ExtraConfig.CRDRESTOptionsGetter = calls.getter(extensions.ExtraConfig.CRDRESTOptionsGetter)
		aggregator.GenericConfig.RESTOptionsGetter = calls.getter(aggregator.GenericConfig.RESTOptionsGetter)
	}
	cp.Generic.SkipOpenAPIInstallation = true // serveDocuments does
	return &app.Config{Options: opts, KubeAPIs: kube, ApiExtensions: extensions, Aggregator: aggregator}, nil
}

// genericConfig applies the options in the order that their interdependence
// asks for: serving, clients, features, API set, documents, storage,
// authentication, authorisation, audit.
func genericConfig(s options.CompletedOptions, cfg Config, sb *inproc.Switchboard) (*genericapiserver.Config, informers.SharedInformerFactory, *serverstorage.DefaultStorageFactory, *calls, error) {
	g := genericapiserver.NewConfig(legacyscheme.Codecs)
	resources := controlplane.DefaultAPIResourceConfigSource()
	g.MergedResourceConfig = resources
	if err := s.GenericServerRunOptions.ApplyTo(g); err != nil {
		return nil, nil, nil, nil, err
	}
	if err := s.SecureServing.SecureServingOptions.ApplyTo(&g.SecureServing); err != nil {
		return nil, nil, nil, nil, err
	}
	g.LoopbackClientConfig = sb.Config(&user.DefaultInfo{
		Name:   user.APIServerUser,
		UID:    uuid.NewString(),
		Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup},
	})
	client, err := kubernetes.NewForConfig(g.LoopbackClientConfig)
	if err != nil {
		return nil, nil, nil, nil, fmt.Errorf("making the server's own client: %w", err)
	}
	shared := informers.NewSharedInformerFactoryWithOptions(client, 10*time.Minute, informers.WithTransform(trim))
	if err := s.Features.ApplyTo(g, client, shared); err != nil {
		return nil, nil, nil, nil, err
	}
	if err := s.APIEnablement.ApplyTo(g, resources, legacyscheme.Scheme); err != nil {
		return nil, nil, nil, nil, err
	}
	if err := s.EgressSelector.ApplyTo(g); err != nil {
		return nil, nil, nil, nil, err
	}
	if g.EgressSelector == nil && cfg.Egress != nil { // the user's own has precedence
		g.EgressSelector = egressselector.NewEgressSelectorWithMap(map[egressselector.EgressType]utilnet.DialFunc{egressselector.Cluster: cfg.Egress})
	}
	applyDocuments(g)
	storage, calls, err := applyStorage(s, cfg, g)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if err := applyAccess(s, g, client, shared); err != nil {
		return nil, nil, nil, nil, err
	}
	if err := s.Audit.ApplyTo(g); err != nil {
		return nil, nil, nil, nil, err
	}
	g.AggregatedDiscoveryGroupManager = aggregated.NewResourceManager("apis")
	if cfg.Single {
		disableHeartbeats(g)
	}
	return g, shared, storage, calls, nil
}

// trim drops what no informer of the server reads.
func trim(obj any) (any, error) {
	if accessor, err := meta.Accessor(obj); err == nil && accessor.GetManagedFields() != nil {
		accessor.SetManagedFields(nil)
	}
	return obj, nil
}

func applyDocuments(g *genericapiserver.Config) {
	definitions := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	namer := openapinamer.NewDefinitionNamer([]*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme}...)
	g.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	g.OpenAPIConfig.Info.Title = "Kubernetes"
	g.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	g.OpenAPIV3Config.Info.Title = "Kubernetes"
	g.OpenAPIConfig.GetOperationIDAndTagsFromRoute = operation
	g.OpenAPIV3Config.GetOperationIDAndTagsFromRoute = operation
	g.LongRunningFunc = filters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"),
		sets.NewString("attach", "exec", "proxy", "log", "portforward"),
	)
}

// operation names a route's operation as upstream does. Upstream's builders of
// documents would put a function of theirs here, which keeps the first builder
// of each version, and with it the descriptions of all types, for good.
func operation(r openapicommon.Route) (string, []string, error) {
	adapter, ok := r.(*restfuladapter.RouteAdapter)
	if !ok {
		return "", nil, fmt.Errorf("the route %s %s is a %T, not one of go-restful", r.Method(), r.Path(), r)
	}
	return openapinamer.GetOperationIDAndTags(adapter.Route)
}

func applyStorage(s options.CompletedOptions, cfg Config, g *genericapiserver.Config) (*serverstorage.DefaultStorageFactory, *calls, error) {
	if g.EgressSelector != nil {
		s.Etcd.StorageConfig.Transport.EgressLookup = g.EgressSelector.Lookup
	}
	s.Etcd.StorageConfig.Transport.TracerProvider = noopoteltrace.NewTracerProvider()
	fc := kubeapiserver.NewStorageFactoryConfigEffectiveVersion(g.EffectiveVersion)
	fc.APIResourceConfig = g.MergedResourceConfig
	fc.DefaultResourceEncoding.SetEffectiveVersion(g.EffectiveVersion)
	storage, err := fc.Complete(s.Etcd).New()
	if err != nil {
		return nil, nil, err
	}
	storage.StorageConfig.StorageObjectCountTracker = g.StorageObjectCountTracker
	etcd := *s.Etcd
	calls, err := newCalls(cfg.Etcd, s.Etcd, g)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to the datastore: %w", err)
	}
	if cfg.Encryption != nil && etcd.EncryptionProviderConfigFilepath == "" { // the user's own has precedence
		g.ResourceTransformers = cfg.Encryption
	}
	if calls != nil {
		if g.ResourceTransformers != nil {
			calls.encryption = cfg.Encryption
		}
		if err := calls.takeOver(&etcd, storage, g); err != nil {
			return nil, nil, fmt.Errorf("connecting to the datastore: %w", err)
		}
	}
	if err := etcd.ApplyWithStorageFactoryTo(storage, g); err != nil {
		return nil, nil, err
	}
	if calls != nil {
		g.RESTOptionsGetter = calls.getter(g.RESTOptionsGetter)
	}
	return storage, calls, nil
}

// applyAccess sets up who may come in and what they may do. In-process
// identities are asked for first: they cost nothing to check.
func applyAccess(s options.CompletedOptions, g *genericapiserver.Config, client kubernetes.Interface, shared informers.SharedInformerFactory) error {
	ctx := wait.ContextForChannel(g.DrainedNotify())
	if err := s.Authentication.ApplyTo(ctx, &g.Authentication, g.SecureServing, g.EgressSelector, g.OpenAPIConfig, g.OpenAPIV3Config, client, shared, g.APIServerID); err != nil {
		return err
	}
	g.Authentication.Authenticator = union.New(
		inproc.Authenticator(authenticator.Audiences(g.Authentication.APIAudiences)),
		g.Authentication.Authenticator,
	)
	authorizer, rules, rbac, err := controlplaneapiserver.BuildAuthorizer(ctx, s.CompletedOptions, g.EgressSelector, g.APIServerID, shared)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	g.Authorization.Authorizer, g.RuleResolver = settling{authorizer}, rules
	if !rbac {
		g.DisabledPostStartHooks.Insert(rbacrest.PostStartHookName)
	}
	return nil
}

// disableHeartbeats leaves out what only other API servers would read: the
// lease by which this one says, every ten seconds, that it is alive.
func disableHeartbeats(g *genericapiserver.Config) {
	g.DisabledPostStartHooks.Insert(
		"start-kube-apiserver-identity-lease-controller",
		"start-kube-apiserver-identity-lease-garbage-collector",
	)
}

// disablePeers leaves out the lease by which this server tells, every ten
// seconds, where others may hand on requests for API versions that they do not
// know, when it is not set up to be handed any.
func disablePeers(cp controlplaneapiserver.Config) {
	if cp.Extra.PeerProxy == nil {
		cp.Generic.DisabledPostStartHooks.Insert("peer-endpoint-reconciler-controller")
	}
}
