package etcd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// Exists says whether there is a member's data in a directory.
func Exists(dir string) bool {
	_, err := os.Stat(memberDir(dir))
	return err == nil
}

// memberName is the member's name, made once: the node's and some random
// letters, so that a machine that joins again under the same name is another
// member.
func memberName(dir, node string) (string, error) {
	file := filepath.Join(dir, "name")
	data, err := os.ReadFile(file)
	if name := strings.TrimSpace(string(data)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the etcd member's name: %w", err)
	}
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("naming the etcd member: %w", err)
	}
	name := node + nameSeparator + hex.EncodeToString(random)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the directory of the embedded etcd: %w", err)
	}
	return name, atomicfile.Write(file, []byte(name+"\n"), 0o600)
}

// MemberName is the name under which a server that has no member yet asks to
// be let in.
func MemberName(dir, node string) (string, error) { return memberName(dir, node) }

const nameSeparator = "-"

// nodeOf is the node's name in a member's.
func nodeOf(member string) string {
	if at := strings.LastIndex(member, nameSeparator); at > 0 {
		return member[:at]
	}
	return member
}
