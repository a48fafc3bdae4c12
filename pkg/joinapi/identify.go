package joinapi

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// caller is who a request's credential says it is from.
type caller struct {
	role      token.Role // by a token
	bootstrap string     // the id of the bootstrap token that it was
	node      string     // by a node's certificate
	lapsed    string     // by a node's certificate that has expired
	admin     bool       // by an administrator's certificate
}

func (c caller) among(w who) bool {
	return w.token && c.role == token.Node || w.server && c.role == token.Server || w.node && c.node != "" || w.lapsed && c.lapsed != "" || w.admin && c.admin
}

func (c caller) name() string {
	switch {
	case c.node != "":
		return "node " + c.node
	case c.lapsed != "":
		return "the expired certificate of node " + c.lapsed
	case c.admin:
		return "an administrator's certificate"
	case c.bootstrap != "":
		return "the bootstrap token " + c.bootstrap
	case c.role == token.Server:
		return "the server token"
	}
	return "the agent token"
}

const noCredential = "a token or a node's client certificate is needed here"

// identify finds out who sent a request. A header decides alone; without one a
// client certificate does.
func (a *API) identify(r *http.Request) (caller, error) {
	header := r.Header.Get("Authorization")
	hasCert := r.TLS != nil && len(r.TLS.PeerCertificates) > 0
	if header == "" && !hasCert {
		return caller{}, refuse(http.StatusUnauthorized, protocol.ReasonCredential, noCredential)
	}
	if header == "" {
		if c, err := a.byCertificate(r.TLS.PeerCertificates); err == nil {
			return c, nil
		}
	}
	// What can be guessed, and what failed, is limited. Certificates that are
	// good are not: a node behind the address of somebody who guesses, or in a
	// flood of guesses, goes on.
	from := source(r.RemoteAddr)
	if wait, ok := a.limit.take(from); !ok {
		return caller{}, busy(http.StatusTooManyRequests, "too many failed attempts", wait)
	}
	var c caller
	var err error
	if header == "" {
		_, err = a.byCertificate(r.TLS.PeerCertificates)
	} else {
		c, err = a.byHeader(r.Context(), r)
	}
	var no *refusal
	if failed := asRefusal(err, &no); !failed || no.status != http.StatusUnauthorized {
		a.limit.giveBack(from)
		return c, err
	}
	a.log.WithField("from", r.RemoteAddr).WithField("path", r.URL.Path).Warn("Refused a credential: ", no.Refusal.Error)
	return c, err
}

func asRefusal(err error, into **refusal) bool {
	no, ok := err.(*refusal)
	*into = no
	return ok
}

func wrong(message string) error {
	return refuse(http.StatusUnauthorized, protocol.ReasonCredential, message)
}

func (a *API) byHeader(ctx context.Context, r *http.Request) (caller, error) {
	if user, password, ok := r.BasicAuth(); ok {
		if role := a.cfg.Tokens.Check(user, password); role != token.Nobody {
			return caller{role: role}, nil
		}
		return caller{}, wrong("the token is wrong: the server has another; read it there with: sudo cat /var/lib/skiff/server/node-token")
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return caller{}, wrong(noCredential)
	}
	return a.byBootstrapToken(ctx, bearer)
}

// byCertificate verifies a client certificate against the client CA.
func (a *API) byCertificate(chain []*x509.Certificate) (caller, error) {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	leaf := chain[0]
	options := x509.VerifyOptions{
		Roots: a.cfg.Authorities().Client.Pool(), Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: time.Now(),
	}
	expired := options.CurrentTime.After(leaf.NotAfter)
	if expired {
		options.CurrentTime = leaf.NotAfter
	}
	if _, err := leaf.Verify(options); err != nil {
		return caller{}, wrong(fmt.Sprintf("the client certificate is not valid: %v", err))
	}
	s := leaf.Subject
	if expired {
		if name, ok := strings.CutPrefix(s.CommonName, pki.NodeAgentUserPrefix); ok && name != "" && slices.Equal(s.Organization, []string{pki.NodeAgentGroup}) {
			return caller{lapsed: name}, nil
		}
		return caller{}, wrong("the client certificate expired at " + leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	for prefix, group := range map[string]string{pki.NodeAgentUserPrefix: pki.NodeAgentGroup, pki.NodeUserPrefix: pki.NodeGroup} {
		if name, ok := strings.CutPrefix(s.CommonName, prefix); ok && name != "" && slices.Equal(s.Organization, []string{group}) {
			return caller{node: name}, nil
		}
	}
	if slices.Contains(s.Organization, pki.AdminGroup) {
		return caller{admin: true}, nil
	}
	// Good, but no one that anything here is for.
	return caller{}, refuse(http.StatusForbidden, protocol.ReasonForbidden, "a certificate of "+fmt.Sprintf("%q", s.CommonName)+" is no node's")
}

// source is whom failures are counted for: an address, or with IPv6 the
// network that one customer of a provider has.
func source(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
