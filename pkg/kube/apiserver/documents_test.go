package apiserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emicklei/go-restful/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/handler3"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// sampleDocuments are those of an API with one resource. made counts how often
// the descriptions of all types were made.
func sampleDocuments(t *testing.T) (d *documents, made *int) {
	t.Helper()
	made = new(int)
	definitions := func(ref openapicommon.ReferenceCallback) map[string]openapicommon.OpenAPIDefinition {
		*made++
		return generatedopenapi.GetOpenAPIDefinitions(ref)
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.Unversioned)
	namer := openapinamer.NewDefinitionNamer(scheme)
	v2 := genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	v3 := genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	v3.Definitions = nil
	*made = 0
	for _, info := range []*string{&v2.Info.Version, &v3.Info.Version} {
		*info = "v1"
	}
	services := restful.NewContainer()
	service := new(restful.WebService).Path("/apis/boats/v1")
	service.Route(service.GET("status").Operation("readStatus").Produces("application/json").
		Returns(http.StatusOK, "OK", metav1.Status{}).Writes(metav1.Status{}).To(func(*restful.Request, *restful.Response) {}))
	services.Add(service)
	d, err := newDocuments(services, v2, v3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.idle.Stop() })
	return d, made
}

func ask(h http.HandlerFunc, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	r.Header.Set("Accept", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

func indexed(t *testing.T, d *documents, name string) string {
	t.Helper()
	var index handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(ask(d.serveIndex, pathV3).Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	return index.Paths[name].ServerRelativeURL
}

func TestDocumentsAreMadeWhenTheyAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, made := sampleDocuments(t)
		url := indexed(t, d, "apis/boats/v1")
		if *made != 0 {
			t.Errorf("the index alone made all descriptions")
		}
		for _, step := range []struct {
			what  string
			pause time.Duration
			made  int
		}{
			{"the first time", 0, 1},
			{"again soon", keepDocuments - time.Second, 1},
			{"again soon after that", keepDocuments - time.Second, 1},
			{"after they were forgotten", keepDocuments + time.Second, 2},
		} {
			time.Sleep(step.pause)
			w := ask(d.serveV3, url)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"/apis/boats/v1/status"`) ||
				!strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
				t.Fatalf("%s: answer %d, %v: %.300s", step.what, w.Code, w.Header(), w.Body)
			}
			if *made != step.made {
				t.Errorf("%s: made %d times, want %d", step.what, *made, step.made)
			}
		}
	})
}

func TestDocumentsOfAnotherHash(t *testing.T) {
	d, _ := sampleDocuments(t)
	w := ask(d.serveV3, pathV3+"/apis/boats/v1?hash=OLD")
	if want := indexed(t, d, "apis/boats/v1"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != want {
		t.Errorf("answer %d to %q: want a redirection to %q", w.Code, w.Header().Get("Location"), want)
	}
	if w := ask(d.serveV3, pathV3+"/apis/boats/v1"); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "" {
		t.Errorf("answer %d, %v without a hash: want one that is not kept", w.Code, w.Header())
	}
	if w := ask(d.serveV3, pathV3+"/apis/planes/v1"); w.Code != http.StatusNotFound {
		t.Errorf("answer %d for a group that is not there", w.Code)
	}
}

func TestTheOldDocumentIsMadeOnceForWhoKnowsIt(t *testing.T) {
	d, made := sampleDocuments(t)
	w := ask(d.serveV2, pathV2)
	tag := w.Header().Get("Etag")
	if w.Code != http.StatusOK || tag == "" || !strings.Contains(w.Body.String(), `"/apis/boats/v1/status"`) {
		t.Fatalf("answer %d, %v: %.300s", w.Code, w.Header(), w.Body)
	}
	d.forget()
	before := *made
	if w := ask(d.serveV2, pathV2, "If-None-Match", tag); w.Code != http.StatusNotModified || *made != before {
		t.Errorf("answer %d and made %d times more: want 304 and none", w.Code, *made-before)
	}
	if w := ask(d.serveV2, pathV2, "If-None-Match", `"another"`); w.Code != http.StatusOK || w.Header().Get("Etag") != tag {
		t.Errorf("answer %d with tag %s: want the same document again", w.Code, w.Header().Get("Etag"))
	}
}
