package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// registry serves image archives the way that a container registry does, for
// the tests that pull an image which is there already. Only reading works.
type registry struct {
	listener net.Listener
	server   *http.Server

	mu    sync.Mutex
	files []*os.File
	blobs map[string]*io.SectionReader // by digest
	tags  map[string]string            // "registry.k8s.io/pause:3.10.2" to a manifest's digest
	kinds map[string]string            // media types of manifests, by digest
}

func listenRegistry(address netip.Addr) (*registry, error) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		return nil, fmt.Errorf("listening for pulls of images: %w", err)
	}
	r := &registry{listener: l, blobs: map[string]*io.SectionReader{}, tags: map[string]string{}, kinds: map[string]string{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(l) }() // ends with an error when closed
	return r, nil
}

func (r *registry) close() error {
	err := r.server.Close()
	for _, f := range r.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// settings is the registries.yaml of a server that shall pull from here.
func (r *registry) settings() string {
	return fmt.Sprintf("mirrors:\n  registry.k8s.io:\n    endpoint: [\"http://%s\"]\n", r.listener.Addr())
}

// add serves the images of an archive, which has to stay where it is.
func (r *registry) add(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, f)
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", archive, err)
		}
		if digest, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && digest != "" {
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			r.blobs["sha256:"+digest] = io.NewSectionReader(f, at, h.Size)
		}
		if h.Name == "index.json" {
			if err := r.index(t); err != nil {
				return fmt.Errorf("reading the index of %s: %w", archive, err)
			}
		}
	}
}

func (r *registry) index(from io.Reader) error {
	var index struct {
		Manifests []struct {
			MediaType, Digest string
			Annotations       map[string]string
		}
	}
	if err := json.NewDecoder(from).Decode(&index); err != nil {
		return err
	}
	for _, m := range index.Manifests {
		r.tags[m.Annotations["io.containerd.image.name"]] = m.Digest
		r.kinds[m.Digest] = m.MediaType
	}
	return nil
}

// ServeHTTP answers GET and HEAD of /v2/, manifests and blobs.
func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	kind := path.Base(path.Dir(q.URL.Path))
	if q.URL.Path == "/v2/" {
		return
	}
	name := strings.TrimPrefix(path.Dir(path.Dir(q.URL.Path)), "/v2/")
	reference := path.Base(q.URL.Path)
	r.mu.Lock()
	digest := reference
	if tagged, ok := r.tags["registry.k8s.io/"+name+":"+reference]; ok && kind == "manifests" {
		digest = tagged
	}
	blob, found := r.blobs[digest]
	mediaType := r.kinds[digest]
	r.mu.Unlock()
	if !found {
		http.Error(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	if mediaType == "" {
		mediaType = "application/octet-stream"
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, q, "", time.Time{}, io.NewSectionReader(blob, 0, blob.Size()))
}
