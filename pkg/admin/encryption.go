package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// Encryption is how Secrets are kept in the datastore.
func (c *Client) Encryption(ctx context.Context) (s protocol.EncryptionStatus, err error) {
	if err := c.patiently(ctx, http.MethodGet, protocol.PathEncryption, nil, &s); err != nil {
		return s, fmt.Errorf("asking how Secrets are encrypted: %w", err)
	}
	return s, nil
}

// ChangeEncryption begins a change; Encryption shows how far it is.
func (c *Client) ChangeEncryption(ctx context.Context, action string) (s protocol.EncryptionStatus, err error) {
	if err := c.patiently(ctx, http.MethodPost, protocol.PathEncryption, protocol.EncryptionRequest{Action: action}, &s); err != nil {
		return s, fmt.Errorf("%s of the encryption of Secrets: %w", action, err)
	}
	return s, nil
}
