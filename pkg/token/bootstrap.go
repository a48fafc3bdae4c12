package token

import (
	"fmt"
	"strings"
)

// What Kubernetes calls the parts of a bootstrap token's Secret, which is in
// kube-system.
const (
	SecretType          = "bootstrap.kubernetes.io/token"
	FieldID             = "token-id"
	FieldSecret         = "token-secret"
	FieldExpiration     = "expiration" // RFC 3339; missing: never
	FieldDescription    = "description"
	FieldAuthentication = usageField + "authentication" // "true"
	FieldSigning        = usageField + "signing"        // "true"
	FieldGroups         = "auth-extra-groups"           // separated by commas

	usageField = "usage-bootstrap-"
)

// JoinGroup is the group whose bootstrap tokens let machines join as agents.
const JoinGroup = GroupPrefix + "skiff:default-node-token"

// GroupPrefix is what Kubernetes wants the groups of bootstrap tokens to begin
// with.
const GroupPrefix = "system:bootstrappers:"

// SecretName is the name of the Secret of a bootstrap token.
func SecretName(id string) string { return "bootstrap-token-" + id }

// Usages are what a bootstrap token may be for.
func Usages() []string { return []string{"signing", "authentication"} }

// UsageField is the field that turns a usage on.
func UsageField(usage string) string { return usageField + usage }

// CheckGroup says what is wrong with the name of a bootstrap token's group.
func CheckGroup(name string) error {
	rest, ok := strings.CutPrefix(name, GroupPrefix)
	if !ok || rest == "" || strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != ':' && r != '-'
	}) {
		return fmt.Errorf("%q cannot be a bootstrap token's group: write %sNAME, in small letters, digits, '-' and ':'", name, GroupPrefix)
	}
	return nil
}
