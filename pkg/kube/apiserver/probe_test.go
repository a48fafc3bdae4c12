package apiserver

import (
	"net/http"
	"testing"
)

func TestAProbeThatIsGivenUpSaysNotReady(t *testing.T) {
	abort := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if probe(t.Context(), abort) {
		t.Error("it says ready")
	}
	if !probe(t.Context(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) {
		t.Error("a server that answers is not ready")
	}
}
