package joinapi

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/scrypt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

const (
	// passwordSuffix comes after a node's name in that of the Secret with the
	// hash of its password.
	passwordSuffix = ".node-password.skiff"
	fieldHash      = "hash"

	// The passwords have 128 random bits, so the hash need not be slow: 2 MiB
	// and some milliseconds each.
	scryptN, scryptR, scryptP = 1 << 11, 8, 1
	hashVersion               = "1"

	// unregistered is how long a name that was claimed waits for its Node.
	unregistered = 5 * time.Minute
)

// claim keeps a node's name for whoever has its password. A name without a
// Node and without a password is the first claimant's. A name with a Node and
// without a password can be claimed by the node's certificate alone. Deleting
// the Node gives the name free.
func (a *API) claim(ctx context.Context, node, password string, certified bool) error {
	a.hashing.Lock()
	defer a.hashing.Unlock()
	for range 3 {
		again, err := a.tryClaim(ctx, node, password, certified)
		if !again {
			return err
		}
	}
	return busy(http.StatusServiceUnavailable, "others claim the name "+node+" at the same time", time.Second)
}

// prove makes sure that a password is that of a node which is there. With a
// certificate that has expired, and with nothing else, it lets a machine back in
// that was off for long: both are in the hands of whoever has its disk, and a
// node that was deleted is not let in again.
func (a *API) prove(ctx context.Context, node, password string) error {
	a.hashing.Lock()
	defer a.hashing.Unlock()
	gone := wrong("the node's certificate has expired, and the cluster does not know its password, or has no such node any more: join with a token, see skiff token create on a server")
	secret, err := a.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, node+passwordSuffix, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return gone
	}
	if err != nil {
		return fmt.Errorf("reading the password of node %s: %w", node, err)
	}
	uid, err := a.nodeUID(ctx, node)
	if err != nil {
		return err
	}
	owned := len(secret.OwnerReferences) > 0 && secret.OwnerReferences[0].UID == uid && uid != ""
	if !owned || !matches(string(secret.Data[fieldHash]), password) {
		return gone
	}
	return nil
}

// tryClaim asks to be called again when somebody else was faster.
func (a *API) tryClaim(ctx context.Context, node, password string, certified bool) (again bool, err error) {
	secrets := a.client.CoreV1().Secrets(metav1.NamespaceSystem)
	secret, err := secrets.Get(ctx, node+passwordSuffix, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return false, fmt.Errorf("reading the password of node %s: %w", node, err)
	}
	if !missing && matches(string(secret.Data[fieldHash]), password) {
		return false, nil
	}
	uid, err := a.nodeUID(ctx, node)
	if err != nil {
		return false, err
	}
	if no := taken(node, secret, missing, uid, certified, time.Now()); no != nil {
		return false, no
	}
	fresh, err := passwordSecret(node, password, uid)
	if err != nil {
		return false, err
	}
	if !missing {
		// Not an update: the collector that deletes it with its Node may be
		// about to, and must not meet the new one.
		err = secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(secret.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return false, fmt.Errorf("replacing the password of node %s: %w", node, err)
		}
	}
	_, err = secrets.Create(ctx, fresh, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("keeping the password of node %s: %w", node, err)
	}
	return false, nil
}

// taken says why a name cannot be claimed with a password that is not in its
// Secret, or nothing. uid is that of the Node, empty when there is none.
func taken(node string, secret *corev1.Secret, missing bool, uid types.UID, certified bool, now time.Time) *refusal {
	var owner types.UID
	if !missing && len(secret.OwnerReferences) > 0 {
		owner = secret.OwnerReferences[0].UID
	}
	switch {
	case missing && (uid == "" || certified):
		return nil
	case !missing && owner != "" && uid == "":
		return nil // its Node was deleted
	case !missing && owner != "" && uid != owner && certified:
		return nil // its Node was deleted, and made again by the caller
	case !missing && owner == "" && uid == "":
		if left := unregistered - now.Sub(claimed(secret)); left > 0 {
			return refuse(http.StatusForbidden, protocol.ReasonNodePassword, fmt.Sprintf(
				"the name %s was claimed by a machine that has not registered its node yet; if that was this one before it was set up anew, try again in %s, else choose another --node-name",
				node, left.Round(time.Second)))
		}
		return nil
	}
	return refuse(http.StatusForbidden, protocol.ReasonNodePassword, fmt.Sprintf(
		"the name %s is another machine's: the node password here is not the one that it joined with. If this is that machine, set up anew, let it in again with: sudo skiff kubectl delete node %s; else choose another --node-name", node, node))
}

// claimed is when a Secret got its password.
func claimed(secret *corev1.Secret) time.Time {
	t, err := time.Parse(time.RFC3339, secret.Annotations[claimedAnnotation])
	if err != nil {
		return secret.CreationTimestamp.Time
	}
	return t
}

// claimedAnnotation says when a name was claimed, in RFC 3339.
const claimedAnnotation = "skiff.io/claimed"

func (a *API) nodeUID(ctx context.Context, node string) (types.UID, error) {
	n, err := a.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading node %s: %w", node, err)
	}
	return n.UID, nil
}

func passwordSecret(node, password string, uid types.UID) (*corev1.Secret, error) {
	hash, err := hashPassword(password)
	if err != nil {
		return nil, err
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: node + passwordSuffix, Namespace: metav1.NamespaceSystem,
			Annotations: map[string]string{claimedAnnotation: time.Now().UTC().Format(time.RFC3339)},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{fieldHash: []byte(hash)},
	}
	if uid != "" {
		s.OwnerReferences = ownedBy(node, uid)
	}
	return s, nil
}

// ownedBy makes a Secret go with its Node.
func ownedBy(node string, uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: uid}}
}

// own ties a node's password to its Node, once the kubelet has made that.
func (a *API) own(ctx context.Context, node string, uid types.UID) error {
	secrets := a.client.CoreV1().Secrets(metav1.NamespaceSystem)
	secret, err := secrets.Get(ctx, node+passwordSuffix, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the password of node %s: %w", node, err)
	}
	// One of a Node that is gone goes, too: it stays as it is.
	if len(secret.OwnerReferences) > 0 {
		return nil
	}
	secret.OwnerReferences = ownedBy(node, uid)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("tying the password of node %s to it: %w", node, err)
	}
	return nil
}

// claimOwn keeps the name of this server's node. A server decides about its
// cluster's names, and one that was restored on another machine has a password
// that the cluster does not know.
func (a *API) claimOwn(ctx context.Context) error {
	node := a.cfg.OwnNode
	secrets := a.client.CoreV1().Secrets(metav1.NamespaceSystem)
	secret, err := secrets.Get(ctx, node+passwordSuffix, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	if !missing && matches(string(secret.Data[fieldHash]), a.cfg.OwnPassword) {
		return nil
	}
	uid, err := a.nodeUID(ctx, node)
	if err != nil {
		return err
	}
	fresh, err := passwordSecret(node, a.cfg.OwnPassword, uid)
	if err != nil {
		return err
	}
	if missing {
		_, err = secrets.Create(ctx, fresh, metav1.CreateOptions{})
		return err
	}
	a.log.Warnf("The name %s was another machine's; from now on it is this server's node", node)
	fresh.ResourceVersion = secret.ResourceVersion
	_, err = secrets.Update(ctx, fresh, metav1.UpdateOptions{})
	return err
}

// hashPassword is "1:<salt>:<hash>", both in base64.
func hashPassword(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("making a salt: %w", err)
	}
	sum, err := scrypt.Key([]byte(password), salt, scryptN, scryptR, scryptP, 32)
	if err != nil {
		return "", fmt.Errorf("hashing a node password: %w", err)
	}
	encode := base64.RawStdEncoding.EncodeToString
	return strings.Join([]string{hashVersion, encode(salt), encode(sum)}, ":"), nil
}

func matches(hash, password string) bool {
	parts := strings.Split(hash, ":")
	if len(parts) != 3 || parts[0] != hashVersion {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	sum, err := scrypt.Key([]byte(password), salt, scryptN, scryptR, scryptP, 32)
	return err == nil && subtle.ConstantTimeCompare(sum, want) == 1
}
