package token

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// NodePassword is the secret by which this machine keeps its node's name, made
// at the first call.
func NodePassword(l layout.Layout) (string, error) {
	path := l.NodePassword()
	data, err := os.ReadFile(path)
	if err == nil {
		password := strings.TrimSpace(string(data))
		if len(password) < 16 {
			return "", fmt.Errorf("%s holds no node password: put it back from a backup; without one, remove it and let this machine in again with skiff kubectl delete node NAME", path)
		}
		return password, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the node password: %w", err)
	}
	password, err := Generate()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("keeping the node password: %w", err)
	}
	if err := atomicfile.Write(path, []byte(password+"\n"), secretMode); err != nil {
		return "", fmt.Errorf("keeping the node password: %w", err)
	}
	return password, nil
}
