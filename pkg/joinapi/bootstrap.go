package joinapi

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-k8s/skiff/pkg/token"
)

// noBootstrap says the same whatever is wrong, apart from expiry, which only a
// holder of the secret is told.
const noBootstrap = "the bootstrap token is not known: it was deleted, or has expired and was cleaned up, or is mistyped; make another on a server with: sudo skiff token create"

// byBootstrapToken looks a token up in its Secret.
func (a *API) byBootstrapToken(ctx context.Context, text string) (caller, error) {
	t, err := token.Parse(text)
	if err != nil || !t.Bootstrap() {
		return caller{}, wrong("what is sent as a bearer is no bootstrap token")
	}
	secret, err := a.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, token.SecretName(t.ID()), metav1.GetOptions{ResourceVersion: ""})
	if apierrors.IsNotFound(err) {
		return caller{}, wrong(noBootstrap)
	}
	if err != nil {
		return caller{}, fmt.Errorf("reading the bootstrap token %s: %w", t.ID(), err)
	}
	if problem := unfitBootstrap(secret, t, time.Now()); problem != "" {
		return caller{}, wrong(problem)
	}
	return caller{role: token.Node, bootstrap: t.ID()}, nil
}

// unfitBootstrap says why a Secret does not let a token join, or nothing.
func unfitBootstrap(secret *corev1.Secret, t token.Token, now time.Time) string {
	field := func(name string) string { return string(secret.Data[name]) }
	good := subtle.ConstantTimeCompare(secret.Data[token.FieldSecret], []byte(t.Secret())) == 1
	if !good || string(secret.Type) != token.SecretType || field(token.FieldID) != t.ID() || secret.DeletionTimestamp != nil {
		return noBootstrap
	}
	if text := field(token.FieldExpiration); text != "" {
		until, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return "the bootstrap token " + t.ID() + " has an expiration that is no time"
		}
		if !now.Before(until) {
			return fmt.Sprintf("the bootstrap token %s expired at %s; make another on a server with: sudo skiff token create", t.ID(), text)
		}
	}
	if field(token.FieldAuthentication) != "true" {
		return "the bootstrap token " + t.ID() + " is not for authentication; make one with: sudo skiff token create"
	}
	if !slices.Contains(strings.Split(field(token.FieldGroups), ","), token.JoinGroup) {
		return "the bootstrap token " + t.ID() + " is not in the group " + token.JoinGroup + ", which lets nodes join"
	}
	return ""
}
