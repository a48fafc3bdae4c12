package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

const secrets = "/api/v1/namespaces/kube-system/secrets"

// BootstrapToken is a bootstrap token without its secret.
type BootstrapToken struct {
	ID          string     `json:"id"`
	Description string     `json:"description,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"` // nil: never
	Usages      []string   `json:"usages"`
	Groups      []string   `json:"groups"`
}

// Joins says whether machines can join with the token, as long as it has not
// expired.
func (b BootstrapToken) Joins() bool {
	return slices.Contains(b.Usages, "authentication") && slices.Contains(b.Groups, token.JoinGroup)
}

// secret is the part of a Secret that matters here.
type secret struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   metadata          `json:"metadata"`
	Type       string            `json:"type"`
	Data       map[string][]byte `json:"data,omitempty"`
	StringData map[string]string `json:"stringData,omitempty"`
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// CreateToken makes a bootstrap token and gives it in full, bound to the
// cluster's CA.
func (c *Client) CreateToken(ctx context.Context, t token.Token, b BootstrapToken) (token.Token, error) {
	ca, err := c.raw(ctx, http.MethodGet, protocol.PathCACerts, nil)
	if err != nil {
		return token.Token{}, fmt.Errorf("asking for the cluster's CA: %w", err)
	}
	hash, err := token.HashCA(ca)
	if err != nil {
		return token.Token{}, err
	}
	fields := map[string]string{token.FieldID: t.ID(), token.FieldSecret: t.Secret()}
	if b.Description != "" {
		fields[token.FieldDescription] = b.Description
	}
	if b.Expires != nil {
		fields[token.FieldExpiration] = b.Expires.UTC().Format(time.RFC3339)
	}
	for _, usage := range b.Usages {
		fields[token.UsageField(usage)] = "true"
	}
	if len(b.Groups) > 0 {
		fields[token.FieldGroups] = strings.Join(b.Groups, ",")
	}
	err = c.do(ctx, http.MethodPost, secrets, secret{
		APIVersion: "v1", Kind: "Secret", Type: token.SecretType, StringData: fields,
		Metadata: metadata{Name: token.SecretName(t.ID()), Namespace: "kube-system"},
	}, nil)
	if err != nil {
		return token.Token{}, fmt.Errorf("making the token: %w", err)
	}
	return t.Pinned(hash), nil
}

// Tokens lists the bootstrap tokens, those that expire first at the beginning.
func (c *Client) Tokens(ctx context.Context) ([]BootstrapToken, error) {
	var list struct {
		Items []secret `json:"items"`
	}
	query := "?fieldSelector=" + url.QueryEscape("type="+token.SecretType)
	if err := c.do(ctx, http.MethodGet, secrets+query, nil, &list); err != nil {
		return nil, fmt.Errorf("listing the tokens: %w", err)
	}
	tokens := []BootstrapToken{}
	for _, s := range list.Items {
		tokens = append(tokens, s.token())
	}
	slices.SortFunc(tokens, func(a, b BootstrapToken) int {
		switch {
		case a.Expires == nil || b.Expires == nil:
			return cmp.Or(boolean(a.Expires == nil)-boolean(b.Expires == nil), cmp.Compare(a.ID, b.ID))
		default:
			return cmp.Or(a.Expires.Compare(*b.Expires), cmp.Compare(a.ID, b.ID))
		}
	})
	return tokens, nil
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s secret) token() BootstrapToken {
	b := BootstrapToken{ID: string(s.Data[token.FieldID]), Description: string(s.Data[token.FieldDescription]), Usages: []string{}, Groups: []string{}}
	if until, err := time.Parse(time.RFC3339, string(s.Data[token.FieldExpiration])); err == nil {
		b.Expires = &until
	}
	for _, usage := range token.Usages() {
		if string(s.Data[token.UsageField(usage)]) == "true" {
			b.Usages = append(b.Usages, usage)
		}
	}
	if groups := string(s.Data[token.FieldGroups]); groups != "" {
		b.Groups = strings.Split(groups, ",")
	}
	return b
}

// DeleteToken deletes the bootstrap token with this id. The error is
// ErrNotFound when there is none.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	err := c.do(ctx, http.MethodDelete, secrets+"/"+url.PathEscape(token.SecretName(id)), nil, nil)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("there is no bootstrap token %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("deleting the token %s: %w", id, err)
	}
	return nil
}

// RotateToken replaces the server token, by an empty text with one that is
// made, and gives the answer, with the new one in full.
func (c *Client) RotateToken(ctx context.Context, next string, agent bool) (protocol.TokenAnswer, error) {
	var answer protocol.TokenAnswer
	if err := c.do(ctx, http.MethodPost, protocol.PathToken, protocol.TokenRequest{NewToken: next, Agent: agent}, &answer); err != nil {
		return answer, fmt.Errorf("replacing the token: %w", err)
	}
	return answer, nil
}
