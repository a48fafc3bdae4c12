package joinapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/jsonreply"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// refusal is an answer that is no success.
type refusal struct {
	status int
	protocol.Refusal
	retry time.Duration // for Retry-After
}

func (r *refusal) Error() string { return r.Refusal.Error }

func refuse(status int, reason protocol.Reason, message string) *refusal {
	return &refusal{status: status, Refusal: protocol.Refusal{Error: message, Reason: reason}}
}

func busy(status int, message string, retry time.Duration) *refusal {
	r := refuse(status, protocol.ReasonBusy, message)
	r.retry = retry
	return r
}

func stopping() error {
	return busy(http.StatusServiceUnavailable, "the server is stopping", time.Second)
}

// who are the kinds of callers that a path lets in.
type who struct{ token, server, node, lapsed, admin bool }

// route is one path.
type route struct {
	method string
	who    who
	slots  slots
	// answer gives what is encoded as the answer, or an error.
	answer func(caller, *http.Request) (any, error)
	// raw, if not nil, answers instead.
	raw http.Handler
}

// routes is who may do what; docs/join.md has the same table.
func (a *API) routes(path string) (route, bool) {
	joiners := who{token: true, server: true, node: true}
	switch path {
	case protocol.PathNode:
		joiners.lapsed = true // a machine that was off for longer than its certificates lived
		return route{http.MethodPost, joiners, a.writes, a.answerNode, nil}, true
	case protocol.PathConfig:
		return route{http.MethodGet, joiners, a.reads, a.answerConfig, nil}, true
	case protocol.PathServers:
		return route{http.MethodGet, joiners, a.waits, a.answerServers, nil}, true
	case protocol.PathServer:
		return route{http.MethodPost, who{server: true}, a.writes, a.answerServer, nil}, true
	case protocol.PathToken:
		return route{http.MethodPost, who{server: true, admin: true}, a.writes, a.answerToken, nil}, true
	}
	if h, ok := a.cfg.AdminHandlers[path]; ok {
		return route{who: who{admin: true}, raw: h}, true
	}
	h, ok := a.cfg.Handlers[path]
	return route{who: who{node: true}, raw: h}, ok
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		defer a.boundBody(w)()
	}
	err := a.serve(w, r)
	if err == nil {
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		a.log.WithError(err).WithField("path", r.URL.Path).Error("Answering a request failed")
		no = busy(http.StatusServiceUnavailable, "the server cannot answer now; its log says why", 5*time.Second)
	}
	if no.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(no.retry.Seconds()))))
	}
	if no.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="skiff"`)
	}
	jsonreply.Write(w, no.status, no.Refusal)
}

// boundBody bounds the time that a request's body may take, and with it that of
// the answer: net/http reads what is left of a body, of a request that was
// refused, too, before it sends one. Whoever dawdles does not hold up the end of
// the server either. The connection's next request has a deadline of its own.
func (a *API) boundBody(w http.ResponseWriter) (done func()) {
	// A writer that cannot bound reads belongs to no connection.
	body := http.NewResponseController(w)
	_ = body.SetReadDeadline(time.Now().Add(bodyTimeout))
	stop := context.AfterFunc(a.running, func() { _ = body.SetReadDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		_ = body.SetReadDeadline(time.Now().Add(restTimeout))
	}
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	select {
	case <-a.ready:
	default:
		return busy(http.StatusServiceUnavailable, "the server is starting", 2*time.Second)
	}
	if a.running.Err() != nil {
		return stopping()
	}
	c, err := a.identify(r)
	if err != nil {
		return err
	}
	rt, known := a.routes(r.URL.Path)
	switch {
	case !known:
		return refuse(http.StatusNotFound, protocol.ReasonRequest, "there is no such path")
	case c.lapsed != "" && !rt.who.lapsed:
		return wrong(c.name() + " does not do for this: its node has to ask for another first")
	case !c.among(rt.who):
		return refuse(http.StatusForbidden, protocol.ReasonForbidden, c.name()+" may not do this")
	case rt.raw != nil:
		rt.raw.ServeHTTP(w, r.WithContext(protocol.WithNode(r.Context(), c.node)))
		return nil
	case r.Method != rt.method:
		w.Header().Set("Allow", rt.method)
		return refuse(http.StatusMethodNotAllowed, protocol.ReasonRequest, "only "+rt.method)
	case !rt.slots.take():
		return busy(http.StatusServiceUnavailable, "too many requests at once", time.Second)
	}
	defer rt.slots.free()
	answer, err := rt.answer(c, r)
	if err != nil {
		return err
	}
	jsonreply.Write(w, http.StatusOK, answer)
	return nil
}

// decode reads a request's body, within bounds.
func decode(r *http.Request, into any) error {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, protocol.ReasonRequest, "the body has to be application/json")
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(data) > maxBody:
		return refuse(http.StatusRequestEntityTooLarge, protocol.ReasonRequest, "the body is larger than "+strconv.Itoa(maxBody>>10)+" KiB")
	case err != nil:
		return refuse(http.StatusBadRequest, protocol.ReasonRequest, "the body did not arrive whole")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return refuse(http.StatusBadRequest, protocol.ReasonRequest, "the body is not what is asked for here")
	}
	return nil
}

func (a *API) answerConfig(c caller, r *http.Request) (any, error) {
	if err := checkVersion(r.Header.Get(protocol.HeaderVersion)); err != nil {
		return nil, err
	}
	return a.clusterConfig(), nil
}

func (a *API) clusterConfig() protocol.ClusterConfig {
	c := a.cfg.Cluster
	c.Servers = slices.Clone(a.servers.current().Servers)
	ca := a.cfg.Authorities()
	c.ServerCA, c.ClientCA, c.Trust = string(ca.Server.Bundle), string(ca.Client.Bundle), trust(ca)
	return c
}

// trust tells CAs apart.
func trust(ca *pki.Authorities) string {
	sum := sha256.Sum256(slices.Concat(ca.Server.Bundle, []byte{0}, ca.Client.Bundle))
	return hex.EncodeToString(sum[:8])
}

// Servers are the addresses, "host:port", at which the API is served now.
func (a *API) Servers() []string { return slices.Clone(a.servers.current().Servers) }

// Announce tells nodes that wait for news that there may be some.
func (a *API) Announce() { a.servers.wake() }

// answerServers answers at once when the caller has another list, else when
// there is one.
func (a *API) answerServers(_ caller, r *http.Request) (any, error) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for {
		now, changed := a.servers.watch()
		now.Trust = trust(a.cfg.Authorities())
		now.Version += "-" + now.Trust
		if r.URL.Query().Get(protocol.QueryAfter) != now.Version {
			return now, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return now, nil
		case <-r.Context().Done():
			return now, nil
		case <-a.running.Done():
			return nil, stopping()
		}
	}
}
