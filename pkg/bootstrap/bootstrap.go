// Package bootstrap is what all servers of a cluster must have the same: CAs
// with their keys, the service-account key, the agents' token, the keys that
// encrypt Secrets. It gathers them from the disk, seals them with the server
// token, keeps them in the datastore, and writes them on another machine. It is
// data alone and knows files by their names only; components, wiring and
// commands may import it. docs/adr/0011 says how things are sealed.
package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// maxFile bounds one file, in bytes.
const maxFile = 1 << 20

// File is one file of a server.
type File struct {
	// Path is relative to the data directory, with slashes.
	Path    string `json:"path"`
	Content []byte `json:"content"`
}

// Data are the files, sorted by path. Printing it shows their names alone.
type Data struct {
	Files []File `json:"files"`
}

// ServerCA is the path of the CA by which join tokens are bound to the cluster.
const ServerCA = "server/tls/server-ca.crt"

// Paths are the files that may be there, relative to the data directory. A
// cluster has some of them: those of etcd when it runs embedded, an agent token
// when it is not the server token.
func Paths() []string {
	var all []string
	for _, ca := range []string{"server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"} {
		all = append(all, "server/tls/"+ca+".crt", "server/tls/"+ca+".key")
	}
	all = append(all, "server/tls/service.key", "server/agent-token", "server/cred/encryption-state.json")
	slices.Sort(all)
	return all
}

// mode is who may read a file.
func mode(path string) fs.FileMode {
	if strings.HasSuffix(path, ".crt") {
		return 0o644
	}
	return 0o600
}

// Gather reads the files that there are. A symbolic link, such as that from
// the agent token to the server token, is none of them.
func Gather(l layout.Layout) (Data, error) {
	var d Data
	for _, path := range Paths() {
		name := filepath.Join(l.Data, filepath.FromSlash(path))
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Data{}, fmt.Errorf("gathering the cluster's keys: %w", err)
		}
		if info.Mode()&fs.ModeSymlink != 0 && path == "server/agent-token" {
			continue
		}
		if info.Size() > maxFile {
			return Data{}, fmt.Errorf("gathering the cluster's keys: %s has %d bytes, more than any such file", name, info.Size())
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return Data{}, fmt.Errorf("gathering the cluster's keys: %w", err)
		}
		d.Files = append(d.Files, File{path, content})
	}
	return d, nil
}

// Write makes the files of a server those of d, each atomically. Files that d
// does not have stay.
func (d Data) Write(l layout.Layout) error {
	if err := d.check(); err != nil {
		return err
	}
	for _, f := range d.Files {
		name := filepath.Join(l.Data, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(l.Data, 0o755); err != nil {
			return fmt.Errorf("writing the cluster's keys: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return fmt.Errorf("writing the cluster's keys: %w", err)
		}
		if _, err := atomicfile.WriteIfChanged(name, f.Content, mode(f.Path)); err != nil {
			return fmt.Errorf("writing the cluster's keys: %w", err)
		}
	}
	return nil
}

// check refuses what no server has gathered.
func (d Data) check() error {
	known := Paths()
	for _, f := range d.Files {
		if !slices.Contains(known, f.Path) {
			return fmt.Errorf("the cluster's keys have a file %q, which this version of Skiff does not know: run the version that the other servers run", f.Path)
		}
	}
	return nil
}

// Get is the content of a file; nil when it is not there.
func (d Data) Get(path string) []byte {
	for _, f := range d.Files {
		if f.Path == path {
			return f.Content
		}
	}
	return nil
}

// Differing names the files that are not the same in both.
func (d Data) Differing(other Data) []string {
	var names []string
	for _, path := range Paths() {
		if !bytes.Equal(d.Get(path), other.Get(path)) {
			names = append(names, path)
		}
	}
	return names
}

// Digest tells Data apart without showing anything of it.
func (d Data) Digest() string {
	h := sha256.New()
	for _, f := range d.Files {
		fmt.Fprintf(h, "%q %d\n", f.Path, len(f.Content))
		h.Write(f.Content)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// String shows no content.
func (d Data) String() string {
	var names []string
	for _, f := range d.Files {
		names = append(names, f.Path)
	}
	return "bootstrap data: " + strings.Join(names, ", ")
}

// GoString is String.
func (d Data) GoString() string { return d.String() }

func (d Data) encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding the cluster's keys: %w", err)
	}
	return data, nil
}

func decode(data []byte) (Data, error) {
	var d Data
	if err := json.Unmarshal(data, &d); err != nil {
		return Data{}, fmt.Errorf("the cluster's keys are sealed rightly, but are not what this version of Skiff understands: %w", err)
	}
	slices.SortFunc(d.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return d, d.check()
}
