package encryption

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/skiff-k8s/skiff/pkg/internal/jsonreply"
	"github.com/skiff-k8s/skiff/pkg/keyring"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// maxBody bounds a request, in bytes.
const maxBody = 4 << 10

// ServeHTTP answers protocol.PathEncryption, for administrators only, of which
// its caller makes sure.
func (c *Controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var req protocol.EncryptionRequest
		data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(data, &req)
		}
		if err != nil {
			jsonreply.Write(w, http.StatusBadRequest, protocol.Refusal{Error: "the body is not what is asked for here", Reason: protocol.ReasonRequest})
			return
		}
		if err := c.Begin(context.WithoutCancel(r.Context()), keyring.Kind(req.Action)); err != nil {
			jsonreply.Write(w, http.StatusConflict, protocol.Refusal{Error: err.Error(), Reason: protocol.ReasonRequest})
			return
		}
	default:
		w.Header().Set("Allow", "GET, POST")
		jsonreply.Write(w, http.StatusMethodNotAllowed, protocol.Refusal{Error: "only GET and POST", Reason: protocol.ReasonRequest})
		return
	}
	status, err := c.status(r.Context())
	if err != nil {
		jsonreply.Write(w, http.StatusServiceUnavailable, protocol.Refusal{Error: err.Error(), Reason: protocol.ReasonBusy})
		return
	}
	jsonreply.Write(w, http.StatusOK, status)
}

func (c *Controller) status(ctx context.Context) (s protocol.EncryptionStatus, err error) {
	c.mu.Lock()
	ring, problem := c.ring, c.problem
	c.mu.Unlock()
	if s.Secrets, s.Current, err = c.cfg.Values.count(ctx, ring); err != nil {
		return s, err
	}
	s.Enabled = ring.Enabled()
	s.Keys = []protocol.EncryptionKey{}
	for _, k := range ring.Keys {
		s.Keys = append(s.Keys, protocol.EncryptionKey{Name: k.Name, Provider: k.Provider, Made: k.Made, Active: k.Name == ring.Write})
	}
	s.Operation, s.Last = operation(ring.Operation, problem), operation(ring.Last, "")
	said, err := c.loaded(ctx, ring)
	s.Servers = []protocol.EncryptionServer{}
	for _, name := range slices.Sorted(maps.Keys(said)) {
		s.Servers = append(s.Servers, protocol.EncryptionServer{Name: name, Hash: said[name]})
	}
	return s, err
}

func operation(op *keyring.Operation, problem string) *protocol.EncryptionOperation {
	if op == nil {
		return nil
	}
	return &protocol.EncryptionOperation{Action: string(op.Kind), Step: string(op.Step), Since: op.Since, Problem: problem}
}
