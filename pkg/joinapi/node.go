package joinapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// maxNodeName leaves room for what the names of Secrets have after it.
const maxNodeName = 253 - len(passwordSuffix)

// answerNode lets a node join or renew its certificates, or tells it that it
// may stay what it is. Everything is checked before anything is written.
func (a *API) answerNode(c caller, r *http.Request) (any, error) {
	var req protocol.NodeRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if err := checkVersion(req.Version); err != nil {
		return nil, a.note(c, r, req.Name, err)
	}
	if err := a.checkName(c, req); err != nil {
		return nil, a.note(c, r, req.Name, err)
	}
	var sign func(now time.Time) (*protocol.NodeSet, error)
	if req.Requests != nil {
		var err error
		if sign, err = a.checkRequests(req.Name, *req.Requests); err != nil {
			return nil, a.note(c, r, req.Name, err)
		}
	}
	claim := func() error { return a.claim(r.Context(), req.Name, req.Password, c.node != "") }
	if c.lapsed != "" {
		claim = func() error { return a.prove(r.Context(), req.Name, req.Password) }
	}
	if err := claim(); err != nil {
		return nil, a.note(c, r, req.Name, err)
	}
	answer := protocol.NodeAnswer{Cluster: a.clusterConfig()}
	if sign == nil {
		return answer, nil
	}
	certs, err := sign(time.Now())
	if err != nil {
		return nil, err
	}
	answer.Certificates = certs
	a.log.WithField("node", req.Name).WithField("from", r.RemoteAddr).Infof("Issued certificates for node %s, asked by %s", req.Name, c.name())
	return answer, nil
}

// note logs a refusal that the administrator of the server should know of.
func (a *API) note(c caller, r *http.Request, node string, err error) error {
	var no *refusal
	if asRefusal(err, &no) {
		a.log.WithField("from", r.RemoteAddr).Warnf("Refused node %.253q, asked by %s: %s", node, c.name(), no.Refusal.Error)
	}
	return err
}

func badRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, protocol.ReasonRequest, fmt.Sprintf(format, args...))
}

// checkName makes sure that a name can be a node's, and that a node speaks for
// itself only.
func (a *API) checkName(c caller, req protocol.NodeRequest) error {
	if len(validation.IsDNS1123Subdomain(req.Name)) > 0 || len(req.Name) > maxNodeName {
		return badRequest("%.64q cannot be a node's name: set --node-name to one of lower-case letters, digits, '-' and '.', of at most %d characters", req.Name, maxNodeName)
	}
	if own := c.node + c.lapsed; own != "" && own != req.Name {
		return refuse(http.StatusForbidden, protocol.ReasonForbidden, fmt.Sprintf("node %s may not ask for certificates of node %s", own, req.Name))
	}
	if n := len(req.Password); n < 16 || n > 256 {
		return badRequest("the node password is missing, or has not 16 to 256 characters")
	}
	return nil
}

// checkRequests looks at a node's signing requests and returns what signs them.
func (a *API) checkRequests(node string, set protocol.NodeSet) (func(time.Time) (*protocol.NodeSet, error), error) {
	serving, kubelet, proxy, nodeAgent := pki.NodeLeaves(node)
	var answer protocol.NodeSet
	type work struct {
		what string
		text string
		ca   *pki.Authority
		spec pki.Leaf
		into *string
		req  pki.Request
	}
	ca := a.cfg.Authorities()
	all := []*work{
		{what: "serving", text: set.Serving, ca: ca.Server, spec: serving, into: &answer.Serving},
		{what: "kubelet", text: set.Kubelet, ca: ca.Client, spec: kubelet, into: &answer.Kubelet},
		{what: "proxy", text: set.Proxy, ca: ca.Client, spec: proxy, into: &answer.Proxy},
		{what: "nodeAgent", text: set.NodeAgent, ca: ca.Client, spec: nodeAgent, into: &answer.NodeAgent},
	}
	for _, w := range all {
		var err error
		if w.req, err = pki.ParseRequest(w.text); err != nil {
			return nil, badRequest("the signing request %s: %v", w.what, err)
		}
		if !w.req.Asks(w.spec) {
			return nil, badRequest("the signing request %s is for %.64q %.64q, and node %s gets %q %q", w.what,
				w.req.Leaf.CommonName, w.req.Leaf.Organizations, node, w.spec.CommonName, w.spec.Organizations)
		}
	}
	if err := a.checkNames(node, all[0].req.Leaf); err != nil {
		return nil, err
	}
	for _, w := range all[1:] {
		if len(w.req.Leaf.DNSNames)+len(w.req.Leaf.IPs) > 0 {
			return nil, badRequest("the signing request %s asks for names or addresses, which client certificates have not", w.what)
		}
	}
	all[0].spec.DNSNames = withName(all[0].req.Leaf.DNSNames, node)
	all[0].spec.IPs = all[0].req.Leaf.IPs
	return func(now time.Time) (*protocol.NodeSet, error) {
		for _, w := range all {
			var err error
			if *w.into, err = w.ca.SignRequest(w.spec, w.req, now); err != nil {
				return nil, fmt.Errorf("node %s: %w", node, err)
			}
		}
		return &answer, nil
	}, nil
}

// answerToken replaces the server token.
func (a *API) answerToken(c caller, r *http.Request) (any, error) {
	var req protocol.TokenRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.NewToken == "" {
		made, err := token.Generate()
		if err != nil {
			return nil, err
		}
		req.NewToken = made
	}
	next, err := token.Parse(req.NewToken)
	if err != nil {
		return nil, badRequest("the new token: %v", err)
	}
	if next.Bootstrap() {
		return nil, badRequest("the new token: it has the form of a bootstrap token (6 characters, a dot, 16 characters): choose another password")
	}
	// What was begun is finished though its caller has left.
	full, err := a.cfg.Rotate(context.WithoutCancel(r.Context()), next, req.Agent)
	if err != nil {
		return nil, badRequest("the new token: %v", err)
	}
	what, given := "server", a.cfg.Tokens.Given()
	if req.Agent {
		what, given = "agent", a.cfg.Tokens.GivenAgent()
	}
	a.log.WithField("from", r.RemoteAddr).Warnf("The %s token was replaced, asked by %s", what, c.name())
	answer := protocol.TokenAnswer{Token: full.Reveal()}
	switch {
	case given && req.Agent:
		answer.Warning = "the server is started with an agent token, in its configuration, environment or arguments: write the new one there, or its next start brings the old one back"
	case given:
		answer.Warning = "the server is started with a token, in its configuration, environment or arguments: write the new one there, or its next start ends with an error"
	}
	return answer, nil
}
