package apiserver

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emicklei/go-restful/v3"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/version"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	pathV2 = "/openapi/v2"
	pathV3 = "/openapi/v3"
	// keepDocuments is for how long documents stay after they were asked for:
	// who asks for one often asks for more.
	keepDocuments = time.Minute
)

// documents serves the OpenAPI documents of the built-in API, made by upstream's
// code, but when they are asked for. Upstream makes them at every start, a
// quarter of a second of work, and holds them: a third of all the memory that
// an idle server needs, for kubectl to explain or to complete a field. It is
// safe for concurrent use.
type documents struct {
	v2       *openapicommon.Config
	v3       *openapicommon.OpenAPIV3Config
	services *restful.Container
	keep     time.Duration

	// hash stands for all documents in their names, by which clients cache
	// them. Upstream's is one of each document's content, which only shows when
	// it is made; this is one of all that they are made from.
	hash  string
	index []byte // of version 3: which documents there are

	mu    sync.Mutex
	made  map[string]http.Handler        // by path, until forgotten
	full  *openapicommon.OpenAPIV3Config // v3 with all definitions, while in use
	idle  *time.Timer
	v2Tag string // once it was made
}

// serveDocuments puts documents in the place of those that upstream makes for
// the server of the built-in API, which must be configured to install none.
func serveDocuments(chain *genericapiserver.GenericAPIServer, v2 *openapicommon.Config, v3 *openapicommon.OpenAPIV3Config) error {
	builtIn, ok := chain.NextDelegate().(*genericapiserver.GenericAPIServer)
	if !ok {
		return errors.New("behind the aggregator there is no server of the built-in API")
	}
	d, err := newDocuments(builtIn.Handler.GoRestfulContainer, v2, v3)
	if err != nil {
		return err
	}
	paths := builtIn.Handler.NonGoRestfulMux
	paths.Handle(pathV2, http.HandlerFunc(d.serveV2))
	paths.Handle(pathV3, http.HandlerFunc(d.serveIndex))
	paths.HandlePrefix(pathV3+"/", http.HandlerFunc(d.serveV3))
	return nil
}

func newDocuments(services *restful.Container, v2 *openapicommon.Config, v3 *openapicommon.OpenAPIV3Config) (*documents, error) {
	d := &documents{v2: v2, v3: v3, services: services, keep: keepDocuments, made: map[string]http.Handler{}}
	d.hash = origin(services.RegisteredWebServices())
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, s := range services.RegisteredWebServices() {
		name := strings.TrimPrefix(s.RootPath(), "/")
		index.Paths[name] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: d.url(name)}
	}
	var err error
	if d.index, err = json.Marshal(index); err != nil {
		return nil, fmt.Errorf("listing the API's documents: %w", err)
	}
	d.idle = time.AfterFunc(d.keep, d.forget)
	return d, nil
}

// origin is a hash of what the documents are made from: the program, its
// feature gates, and what it serves.
func origin(services []*restful.WebService) string {
	h := sha256.New()
	fmt.Fprintf(h, "%#v\n", version.Get())
	gates := utilfeature.DefaultMutableFeatureGate.GetAll()
	for _, gate := range slices.Sorted(maps.Keys(gates)) {
		fmt.Fprintln(h, gate, utilfeature.DefaultFeatureGate.Enabled(gate))
	}
	var served []string
	for _, s := range services {
		for _, route := range s.Routes() {
			served = append(served, s.RootPath()+" "+route.String())
		}
	}
	slices.Sort(served)
	for _, s := range served {
		fmt.Fprintln(h, s)
	}
	return fmt.Sprintf("%X", h.Sum(nil))
}

func (d *documents) url(name string) string {
	u := url.URL{Path: pathV3 + "/" + name, RawQuery: url.Values{"hash": {d.hash}}.Encode()}
	return u.String()
}

// serveIndex is asked once a second by the aggregator.
func (d *documents) serveIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Etag", `"`+d.hash+`"`)
	_, _ = w.Write(d.index) // the client has gone
}

// serveV3 answers as upstream does: the document of the hash that was asked for
// may be cached forever, and another hash leads to this one.
func (d *documents) serveV3(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, pathV3+"/")
	service := d.service(name)
	if service == nil {
		http.NotFound(w, r)
		return
	}
	query := r.URL.Query()
	hash := query.Get("hash")
	if hash != "" && hash != d.hash {
		http.Redirect(w, r, d.url(name), http.StatusMovedPermanently)
		return
	}
	if hash != "" {
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).Format(time.RFC1123))
		query.Del("hash") // it is not the content's
		plain := *r.URL
		plain.RawQuery = query.Encode()
		r = r.Clone(r.Context())
		r.URL = &plain
	}
	d.document(r.URL.Path, func(paths *mux.PathRecorderMux) {
		one := restful.NewContainer()
		one.Add(service)
		if d.full == nil {
			d.full = withDefinitions(*d.v3)
		}
		routes.OpenAPI{V3Config: d.full}.InstallV3(one, paths)
	}).ServeHTTP(w, r)
}

func (d *documents) service(name string) *restful.WebService {
	for _, s := range d.services.RegisteredWebServices() {
		if s.RootPath() == "/"+name {
			return s
		}
	}
	return nil
}

// serveV2 is asked by the aggregator, for each request that it gets, whether
// the document is still the one that it knows.
func (d *documents) serveV2(w http.ResponseWriter, r *http.Request) {
	if tag := d.tag(); tag != "" && r.Header.Get("If-None-Match") == tag {
		w.Header().Set("Etag", tag)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	d.document(pathV2, func(paths *mux.PathRecorderMux) {
		routes.OpenAPI{Config: d.v2}.InstallV2(d.services, paths)
	}).ServeHTTP(w, r)
	d.setTag(w.Header().Get("Etag"))
}

func (d *documents) tag() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.v2Tag
}

func (d *documents) setTag(tag string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.v2Tag = tag
}

// document makes what serves a path, one at a time, unless it is there.
func (d *documents) document(path string, install func(*mux.PathRecorderMux)) http.Handler {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle.Reset(d.keep)
	if d.made[path] == nil {
		paths := mux.NewPathRecorderMux("openapi")
		install(paths)
		d.made[path] = paths
	}
	return d.made[path]
}

func (d *documents) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.made)
	d.full = nil
}

// withDefinitions fills in the descriptions of all types, as upstream does for
// a server's whole life.
func withDefinitions(c openapicommon.OpenAPIV3Config) *openapicommon.OpenAPIV3Config {
	c.Definitions = c.GetDefinitions(func(name string) spec.Ref {
		definition, _ := c.GetDefinitionName(name)
		return spec.MustCreateRef("#/components/schemas/" + openapicommon.EscapeJsonPointer(definition))
	})
	return &c
}
