package hostaddr

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// maxNodeName is the length of a label's value: each node's name is the value
// of its label kubernetes.io/hostname.
const maxNodeName = 63

// NodeName is a node's name with the identifier of this machine appended, which
// is made on the first call and kept in a file. Machines that came from one
// image and have one host name are told apart by it.
func NodeName(name, file string) (string, error) {
	id, err := machineID(file)
	if err != nil {
		return "", err
	}
	if name += "-" + id; len(name) > maxNodeName {
		return "", fmt.Errorf("with-node-id: the node's name %s has %d characters and may have %d; choose a shorter --node-name", name, len(name), maxNodeName)
	}
	return name, nil
}

// nodeID has k3s' length.
var nodeID = regexp.MustCompile(`^[0-9a-f]{8}$`)

func machineID(file string) (string, error) {
	data, err := os.ReadFile(file)
	id := strings.TrimSpace(string(data))
	switch {
	case err == nil && nodeID.MatchString(id):
		return id, nil
	case err == nil:
		return "", fmt.Errorf("%s has to hold 8 hexadecimal digits and does not; remove it to get others, and the node another name", file)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("reading the identifier for --with-node-id: %w", err)
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	id = hex.EncodeToString(random)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("making a directory for the identifier of --with-node-id: %w", err)
	}
	if err := atomicfile.Write(file, []byte(id+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("keeping the identifier for --with-node-id: %w", err)
	}
	return id, nil
}
