package registries

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

const hostsFile = "hosts.toml"

// writeHosts makes the hosts directory have these files, readable by root only,
// and removes those that Skiff wrote before. It says which ones changed.
func writeHosts(dir string, files map[string]string) (changed []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(files) {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return changed, err
		}
		fresh, err := atomicfile.WriteIfChanged(filepath.Join(dir, name, hostsFile), []byte(files[name]), 0o600)
		if err != nil {
			return changed, err
		}
		if fresh {
			changed = append(changed, name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return changed, err
	}
	for _, e := range entries {
		if _, wanted := files[e.Name()]; wanted {
			continue
		}
		gone, err := removeStale(filepath.Join(dir, e.Name()))
		if err != nil {
			return changed, err
		}
		if gone {
			changed = append(changed, e.Name())
		}
	}
	return changed, nil
}

// removeStale removes a directory that Skiff made. containerd would read one
// that is empty instead of the wildcard's, so it goes whole.
func removeStale(dir string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, hostsFile))
	if err != nil || !bytes.HasPrefix(data, []byte(header)) {
		return false, nil // somebody else's
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("removing what is left of an earlier configuration: %w", err)
	}
	return true, nil
}
