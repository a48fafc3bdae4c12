package server

import (
	"net/http"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// front answers what has to be open to those who have no credentials yet, has
// join answer what it is for, and passes everything else to the API server's
// handler chain. It counts what comes from outside the process, through TLS.
func front(serverCA func() []byte, join http.Handler, count func()) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS != nil {
				count()
			}
			switch path := r.URL.Path; {
			case path == protocol.PathPing:
				reply(w, r, "text/plain; charset=utf-8", []byte("pong\n"))
			case path == protocol.PathCACerts:
				reply(w, r, "application/x-pem-file", serverCA())
			case strings.HasPrefix(path, protocol.Prefix):
				join.ServeHTTP(w, r)
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
}

func reply(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body) // a client that left does not need it
}
