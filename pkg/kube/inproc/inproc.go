// Package inproc carries API requests from components of this process to the
// API server's handler chain without a connection: no TCP, no TLS, no HTTP
// framing. A request still passes the whole chain (authentication,
// authorisation, audit, priority and fairness, admission), under the identity
// of the component that sends it. Components get a *rest.Config made here and
// never import this package; only pkg/kube/apiserver and the wiring do.
package inproc

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

// host is never resolved: it only has to be a well-formed address. Requests
// show it as their Host, where an external client shows the server's address.
const host = "https://kubernetes.default.svc"

type identityKey struct{}

// Switchboard connects in-process clients with a handler that appears later:
// requests sent before Connect wait for it. It is safe for concurrent use.
type Switchboard struct {
	connected chan struct{}
	once      sync.Once
	handler   http.Handler
}

// New makes a Switchboard without a handler.
func New() *Switchboard { return &Switchboard{connected: make(chan struct{})} }

// Connect makes h answer all requests. Only the first call has an effect.
func (s *Switchboard) Connect(h http.Handler) {
	s.once.Do(func() {
		s.handler = h
		close(s.connected)
	})
}

// Config is a client configuration that acts as u. Client-side rate limits are
// off: priority and fairness in the server shares the capacity out, and knows
// more about it than a fixed number of requests a second does.
func (s *Switchboard) Config(u user.Info) *rest.Config {
	return &rest.Config{
		Host:          host,
		Transport:     &transport{switchboard: s, user: u},
		QPS:           -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json"},
		UserAgent:     userAgent(u),
	}
}

// JSONConfig is Config for clients of types that have no protobuf encoding,
// such as dynamic and metadata clients.
func (s *Switchboard) JSONConfig(u user.Info) *rest.Config {
	c := s.Config(u)
	c.ContentConfig = rest.ContentConfig{}
	return c
}

func userAgent(u user.Info) string { return "skiff/" + u.GetName() }

// Authenticator recognises requests that came through a Switchboard. It never
// recognises anything that came from a network: the identity is a context
// value under a key that only this package has.
func Authenticator(audiences authenticator.Audiences) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		u, ok := r.Context().Value(identityKey{}).(user.Info)
		if !ok {
			return nil, false, nil
		}
		return &authenticator.Response{User: u, Audiences: audiences}, true, nil
	})
}

// Is says whether the request with this context came through a Switchboard.
func Is(ctx context.Context) bool {
	_, ok := ctx.Value(identityKey{}).(user.Info)
	return ok
}

type transport struct {
	switchboard *Switchboard
	user        user.Info
}

// RoundTrip runs the handler chain in a goroutine of its own and returns once
// the response is complete, has begun to stream, or has outgrown its buffer.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-t.switchboard.connected:
	case <-r.Context().Done():
		closeBody(r)
		return nil, fmt.Errorf("waiting for the API server to start: %w", context.Cause(r.Context()))
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), identityKey{}, t.user))
	w := newResponse(cancel)
	go serve(t.switchboard.handler, w, serverRequest(ctx, r))
	select {
	case <-w.started:
		return w.result(r), nil
	case <-ctx.Done():
		err := context.Cause(ctx)
		w.abandon(err)
		return nil, err
	}
}

func serve(h http.Handler, w *response, r *http.Request) {
	defer closeBody(r)
	defer func() {
		// The chain logs a panic and raises it again to end the connection.
		if p := recover(); p != nil {
			w.finish(fmt.Errorf("the API server gave up on %s %s: %v", r.Method, r.URL.Path, p))
			return
		}
		w.finish(nil)
	}()
	h.ServeHTTP(w, r)
}

// serverRequest turns a client's request into what a server would have read
// from a connection.
func serverRequest(ctx context.Context, r *http.Request) *http.Request {
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/2.0", 2, 0
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	return in
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // nothing is lost: the body was read, or nobody will
	}
}
