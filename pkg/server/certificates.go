package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/skiff-k8s/skiff/pkg/internal/jsonreply"
	"github.com/skiff-k8s/skiff/pkg/joinapi"
	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// maxCertificates bounds a request with CAs in it, in bytes.
const maxCertificates = 1 << 20

// certificateAPI answers protocol.PathCertificates, for administrators only, of
// which its caller makes sure.
type certificateAPI struct {
	renewer *pki.Renewer
	// replaced is told when there are other CAs.
	replaced func(context.Context) error
}

// ServeHTTP implements http.Handler.
func (a certificateAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body := http.StatusMethodNotAllowed, any(protocol.Refusal{Error: "only POST", Reason: protocol.ReasonRequest})
	if r.Method == http.MethodPost {
		status = http.StatusOK
		answer, err := a.do(r)
		body = answer
		if err != nil {
			status, body = http.StatusConflict, protocol.Refusal{Error: err.Error(), Reason: protocol.ReasonRequest}
		}
	}
	jsonreply.Write(w, status, body)
}

func (a certificateAPI) do(r *http.Request) (answer protocol.CertificatesAnswer, err error) {
	var req protocol.CertificatesRequest
	data, err := io.ReadAll(io.LimitReader(r.Body, maxCertificates))
	if err != nil {
		return answer, fmt.Errorf("the request did not arrive whole: %w", err)
	}
	if json.Unmarshal(data, &req) != nil { // its error could quote a key
		return answer, fmt.Errorf("the body is not what is asked for here")
	}
	if req.CA == nil {
		return answer, a.renewer.Rotate(r.Context(), req.Services)
	}
	// What was begun is finished though its caller has left.
	ctx := context.WithoutCancel(r.Context())
	if answer.CAs, err = a.renewer.RotateCA(ctx, req.CA.Files, req.CA.Force); err != nil {
		return answer, err
	}
	return answer, a.replaced(ctx)
}

// replacedCAs tells everybody in this process that there are other CAs.
func (p *parts) replacedCAs(store datastore, join func() *joinapi.API) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := p.tokens.SetCA(p.serverCA()); err != nil {
			return err
		}
		if _, err := p.syncBootstrap(ctx, store); err != nil {
			return fmt.Errorf("the CAs were replaced on this server, and the datastore does not keep them yet; the next start tries again: %w", err)
		}
		join().Announce()
		return nil
	}
}

// serverCA is what clients of the servers have to trust.
func (p *parts) serverCA() []byte { return p.certs.Current().Server.Bundle }
