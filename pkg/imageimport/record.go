package imageimport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// record is what was imported, by path of the archive.
type record struct {
	Archives map[string]archive `json:"archives"`
}

type archive struct {
	Stamp  stamp   `json:"stamp"`
	Images []image `json:"images"`
}

// image is a name and what it stood for when it was imported.
type image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// stamp tells two states of a file apart without reading it.
type stamp struct {
	Size int64 `json:"size"`
	// Modified is in nanoseconds since 1970.
	Modified int64 `json:"modified"`
	Dir      bool  `json:"-"`
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{Size: info.Size(), Modified: info.ModTime().UnixNano(), Dir: info.IsDir()}, nil
}

func loadRecord(path string) (record, error) {
	fresh := record{Archives: map[string]archive{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, err
	}
	var loaded record
	if err := json.Unmarshal(data, &loaded); err != nil {
		return fresh, fmt.Errorf("read %s: %w", path, err)
	}
	if loaded.Archives == nil {
		return fresh, fmt.Errorf("read %s: there is no list of archives in it", path)
	}
	return loaded, nil
}

func (r record) save(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of image archives: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the directory of the record of image archives: %w", err)
	}
	_, err = atomicfile.WriteIfChanged(path, append(data, '\n'), 0o600)
	return err
}

var endings = [...]string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"}

func isArchive(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	return slices.ContainsFunc(endings[:], func(e string) bool { return strings.HasSuffix(name, e) })
}

// stem is an archive's file name without directory and ending.
func stem(path string) string {
	name := filepath.Base(path)
	for _, e := range endings {
		if s, ok := strings.CutSuffix(name, e); ok {
			return s
		}
	}
	return name
}

func names(images []image) []string {
	all := make([]string, len(images))
	for i, img := range images {
		all[i] = img.Name
	}
	return all
}

func sorted(present map[string]stamp) []string {
	paths := make([]string, 0, len(present))
	for p := range present {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}
