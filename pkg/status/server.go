package status

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/internal/unixsocket"
)

// path is where a report is, below the socket.
const path = "/v1/status"

// New is the component that answers on a Unix socket, which only its owner may
// open: a report shows what a cluster is made of. report is called for each
// request, from any goroutine; more answers at other paths.
//
// Let the component that stops last depend on it, so that a stop that hangs
// can be looked at as well.
func New(socket string, report func() Report, more map[string]http.Handler) component.Component {
	return component.Func("status", func(ctx context.Context, ready func()) error {
		listener, err := unixsocket.Listen(ctx, socket, 0o600)
		if err != nil {
			return err
		}
		return serve(ctx, listener, handler(report, more), ready)
	})
}

func handler(report func() Report, more map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	for path, h := range more {
		mux.Handle(path, h)
	}
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// An error here is a client that went away.
		_ = json.NewEncoder(w).Encode(report())
	})
	return mux
}

func serve(ctx context.Context, listener net.Listener, h http.Handler, ready func()) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	err := server.Close() // a report takes no time, and others have been told to end
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
