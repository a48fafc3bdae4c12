// Package imagetar builds container images without a container runtime: files
// in, an archive out that containerd, docker and podman import (OCI layout with
// docker's manifest.json beside it). The same input gives the same bytes. Build
// scripts and tests import it; it imports nothing of ours.
package imagetar

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sort"
	"strings"
)

// File is a file, directory or symbolic link of an image.
type File struct {
	Path string      // absolute or relative to /
	Mode fs.FileMode // permissions; with fs.ModeDir or fs.ModeSymlink, that
	Data []byte      // content; the target of a symbolic link
}

// Image describes an image of one layer.
type Image struct {
	// Name is the full reference, with domain and tag.
	Name         string
	Architecture string // empty: that of the running program
	Files        []File // missing parent directories are added
	Entrypoint   []string
	Cmd          []string
	Env          []string
	WorkingDir   string
	User         string
	Labels       map[string]string
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// Write writes an archive that holds the images.
func Write(w io.Writer, images ...Image) error {
	a := archive{blobs: map[string][]byte{}}
	for _, image := range images {
		if err := a.add(image); err != nil {
			return fmt.Errorf("building image %s: %w", image.Name, err)
		}
	}
	return a.write(w)
}

type archive struct {
	blobs     map[string][]byte
	manifests []descriptor
	docker    []dockerManifest
}

// dockerManifest is an entry of the manifest.json that `docker load` reads.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) blob(mediaType string, data []byte) descriptor {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	a.blobs[name] = data
	return descriptor{MediaType: mediaType, Digest: "sha256:" + name, Size: len(data)}
}

func (a *archive) jsonBlob(mediaType string, value any) (descriptor, error) {
	data, err := json.Marshal(value)
	return a.blob(mediaType, data), err
}

func (a *archive) add(image Image) error {
	data, err := layer(image.Files)
	if err != nil {
		return err
	}
	layerDesc := a.blob(typeLayer, data)
	config, err := a.jsonBlob(typeConfig, image.config(layerDesc.Digest))
	if err != nil {
		return err
	}
	manifest, err := a.jsonBlob(typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": config, "layers": []descriptor{layerDesc},
	})
	if err != nil {
		return err
	}
	manifest.Platform = &platform{Architecture: image.arch(), OS: "linux"}
	manifest.Annotations = map[string]string{
		"io.containerd.image.name":          image.Name,
		"org.opencontainers.image.ref.name": image.tag(),
	}
	a.manifests = append(a.manifests, manifest)
	a.docker = append(a.docker, dockerManifest{
		Config: blobPath(config.Digest), RepoTags: []string{image.Name}, Layers: []string{blobPath(layerDesc.Digest)},
	})
	return nil
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (i Image) arch() string {
	if i.Architecture != "" {
		return i.Architecture
	}
	return runtime.GOARCH
}

func (i Image) tag() string { return i.Name[strings.LastIndex(i.Name, ":")+1:] }

// config is the image configuration of the OCI image specification 1.1. It
// carries no time, for the same reason as everything else here.
func (i Image) config(diffID string) any {
	type run struct {
		User       string            `json:",omitempty"`
		Env        []string          `json:",omitempty"`
		Entrypoint []string          `json:",omitempty"`
		Cmd        []string          `json:",omitempty"`
		WorkingDir string            `json:",omitempty"`
		Labels     map[string]string `json:",omitempty"`
	}
	env := i.Env
	if env == nil {
		env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return map[string]any{
		"architecture": i.arch(), "os": "linux",
		"config": run{i.User, env, i.Entrypoint, i.Cmd, i.WorkingDir, i.Labels},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	}
}

func (a *archive) write(w io.Writer) error {
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": a.manifests})
	if err != nil {
		return err
	}
	docker, err := json.Marshal(a.docker)
	if err != nil {
		return err
	}
	files := []File{
		{Path: "blobs", Mode: fs.ModeDir | 0o755},
		{Path: "blobs/sha256", Mode: fs.ModeDir | 0o755},
		{Path: "oci-layout", Mode: 0o644, Data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{Path: "index.json", Mode: 0o644, Data: index},
		{Path: "manifest.json", Mode: 0o644, Data: docker},
	}
	for name, data := range a.blobs {
		files = append(files, File{Path: "blobs/sha256/" + name, Mode: 0o644, Data: data})
	}
	return writeTar(w, files)
}

func layer(files []File) ([]byte, error) {
	var b bytes.Buffer
	err := writeTar(&b, withParents(files))
	return b.Bytes(), err
}

// withParents cleans the paths and adds the directories that were not named.
func withParents(files []File) []File {
	known := map[string]File{}
	for _, f := range files {
		f.Path = strings.Trim(f.Path, "/")
		for at, c := range f.Path {
			if _, ok := known[f.Path[:at]]; c == '/' && !ok {
				known[f.Path[:at]] = File{Path: f.Path[:at], Mode: fs.ModeDir | 0o755}
			}
		}
		known[f.Path] = f
	}
	all := make([]File, 0, len(known))
	for _, f := range known {
		all = append(all, f)
	}
	return all
}

func writeTar(w io.Writer, files []File) error {
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	t := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		for bit, mode := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
			if f.Mode&bit != 0 {
				header.Mode |= mode
			}
		}
		switch f.Mode.Type() {
		case fs.ModeDir:
			header.Typeflag, header.Name = tar.TypeDir, f.Path+"/"
		case fs.ModeSymlink:
			header.Typeflag, header.Linkname = tar.TypeSymlink, string(f.Data)
		default:
			header.Size = int64(len(f.Data))
		}
		if err := t.WriteHeader(header); err != nil {
			return fmt.Errorf("adding %s: %w", f.Path, err)
		}
		if header.Size > 0 {
			if _, err := t.Write(f.Data); err != nil {
				return fmt.Errorf("adding %s: %w", f.Path, err)
			}
		}
	}
	return t.Close()
}
