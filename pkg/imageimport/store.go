package imageimport

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

// Labels by which containerd's CRI knows what the kubelet must not remove.
const (
	pinnedLabel = "io.cri-containerd.pinned"
	pinnedValue = "pinned"
)

// store puts images into containerd.
type store struct {
	Runtime
	snapshotter string
	log         *logrus.Entry
}

// importArchive reads an archive, unpacks its images and makes the CRI know
// them.
func (s *store) importArchive(ctx context.Context, path string) ([]image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := decompress(f)
	if err != nil {
		return nil, explain(err)
	}
	defer r.Close()

	name := &namer{stem: imageName(stem(path))}
	imported, err := s.Client.Import(ctx, r,
		// The label that says "managed" must not be here: the CRI sets it
		// itself once it has made the reference by image ID.
		client.WithImageLabels(map[string]string{pinnedLabel: pinnedValue}),
		client.WithImageRefTranslator(name.translate),
		client.WithDigestRef(name.nameless),
		client.WithSkipDigestRef(func(ref string) bool { return ref != "" }),
	)
	if err != nil {
		return nil, explain(err)
	}
	if len(imported) == 0 {
		return nil, errors.New("there is no image in it")
	}
	result := make([]image, len(imported))
	for i, img := range imported {
		if err := s.unpack(ctx, img); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", img.Name, err)
		}
		if err := s.RefreshImage(ctx, img.Name); err != nil {
			return nil, fmt.Errorf("make %s known to the CRI: %w", img.Name, err)
		}
		result[i] = image{Name: img.Name, Digest: img.Target.Digest.String()}
	}
	return result, nil
}

// explain puts the usual reasons into words.
func explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it is cut short: %w", err)
	case strings.Contains(err.Error(), "unrecognized image format"):
		return fmt.Errorf("it is neither a docker-archive (docker save) nor an OCI layout: %w", err)
	}
	return err
}

func (s *store) unpack(ctx context.Context, img images.Image) error {
	// Synced, because a power cut must not leave a layer with empty files in
	// it that containerd takes for whole.
	sync := client.WithUnpackApplyOpts(diff.WithSyncFs(true))
	err := client.NewImage(s.Client, img).Unpack(ctx, s.snapshotter, sync)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("it holds no image for this machine's architecture, or layers are missing: %w", err)
	}
	return err
}

// holds says whether all images are there as they were imported, unpacked.
func (s *store) holds(ctx context.Context, wanted []image) bool {
	for _, w := range wanted {
		img, err := s.Client.GetImage(ctx, w.Name)
		if err != nil || img.Target().Digest.String() != w.Digest {
			return false
		}
		if ok, err := img.IsUnpacked(ctx, s.snapshotter); err != nil || !ok {
			return false
		}
		if img.Labels()[pinnedLabel] != pinnedValue {
			return false
		}
	}
	return len(wanted) > 0
}

// unpin lets the kubelet remove the image when it needs the space.
func (s *store) unpin(ctx context.Context, name string) error {
	service := s.Client.ImageService()
	img, err := service.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	delete(img.Labels, pinnedLabel)
	if _, err := service.Update(ctx, img, "labels"); err != nil {
		return err
	}
	return s.RefreshImage(ctx, name)
}

// decompress looks at the content, not at the name.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("it is cut short: %w", err)
	}
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(b)
	case string(magic) == "\x28\xb5\x2f\xfd":
		// Low memory and one goroutine: an import runs beside everything else
		// that a small machine does.
		d, err := zstd.NewReader(b, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// namer finds names for what an archive gives no full name.
type namer struct {
	stem  string
	count int
}

// translate makes a full name of an OCI archive's ref.name, which is either a
// full name or only a tag.
func (n *namer) translate(ref string) string {
	if ref == "" {
		return ""
	}
	if strings.ContainsAny(ref, "/:@") {
		if named, err := reference.ParseDockerRef(ref); err == nil {
			return named.String()
		}
	}
	if named, err := reference.ParseDockerRef(n.stem + ":" + ref); err == nil {
		return named.String()
	}
	return ""
}

// nameless names an image after the file: the first "latest", others by digest.
func (n *namer) nameless(d digest.Digest) string {
	n.count++
	if n.count == 1 {
		return "docker.io/library/" + n.stem + ":latest"
	}
	return "docker.io/library/" + n.stem + ":" + d.Encoded()[:12]
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// imageName makes a name that references allow.
func imageName(stem string) string {
	if name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(stem), "-"), "-"); name != "" {
		return name
	}
	return "archive"
}
