package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// Certificates has a running server issue certificates anew, or replace CAs.
func (c *Client) Certificates(ctx context.Context, req protocol.CertificatesRequest) (answer protocol.CertificatesAnswer, err error) {
	if err := c.patiently(ctx, http.MethodPost, protocol.PathCertificates, req, &answer); err != nil {
		return answer, fmt.Errorf("replacing certificates: %w", err)
	}
	return answer, nil
}
