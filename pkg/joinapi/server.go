package joinapi

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// Admit lets a server in whose token was good. Its errors of RefuseServer and
// HoldServer are told to that server.
type Admit func(context.Context, protocol.ServerRequest) (protocol.ServerAnswer, error)

// RefuseServer is an error of Admit that the other server's administrator has
// to see to.
func RefuseServer(reason protocol.Reason, message string) error {
	return refuse(http.StatusConflict, reason, message)
}

// HoldServer is an error of Admit that passes by itself.
func HoldServer(message string) error {
	return busy(http.StatusServiceUnavailable, message, 2*time.Second)
}

// answerServer lets a server in.
func (a *API) answerServer(_ caller, r *http.Request) (any, error) {
	var req protocol.ServerRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if len(validation.IsDNS1123Subdomain(req.Node)) > 0 || len(req.Node) > maxNodeName {
		return nil, badRequest("%.64q cannot be the name of a server: set --node-name", req.Node)
	}
	if err := checkServers(req.Version, version.Kubernetes); err != nil {
		return nil, err
	}
	answer, err := a.cfg.Admit(r.Context(), req)
	if err != nil {
		a.log.WithError(err).WithField("from", r.RemoteAddr).Warnf("The server %s cannot join", req.Node)
		return nil, err
	}
	return answer, nil
}
