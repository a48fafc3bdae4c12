// Package images builds the container images that upstream's end-to-end tests
// ask for, under the names they have there, from Debian packages and from
// programs compiled out of the Kubernetes module. Nothing comes from a
// registry. The conformance runner imports it.
package images

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

// Sources are what images are made of.
type Sources struct {
	Programs string // directory of compiled programs, by their upstream names
	Packages string // directory of Debian packages, each with all it depends on
	Upstream string // the Kubernetes module's directory
}

// upstream is the registry of most test images.
const upstream = "registry.k8s.io/e2e-test-images/"

// Archive is a group of images in one file: those that share layers.
type Archive struct {
	File   string
	Images []imagetar.Image
}

// Build makes all images.
func Build(s Sources) ([]Archive, error) {
	debian, err := unpack(s.Packages)
	if err != nil {
		return nil, err
	}
	small := only(debian, minimal)
	b := builder{sources: s, debian: withUsers(withApplets(withBash(debian))), small: withUsers(withApplets(withAsh(small)))}
	archives := []Archive{
		{"agnhost.tar", b.agnhost(upstream+"agnhost:2.63.0", upstream+"agnhost:2.55")},
		{"busybox.tar", []imagetar.Image{
			{Name: upstream + "busybox:1.37.0-1", Files: b.small, Cmd: []string{"sh"}},
			{Name: upstream + "nonroot:1.5", Files: b.small, Cmd: []string{"sh"}, User: "1234"},
		}},
		{"glibc-dns-testing.tar", []imagetar.Image{
			{Name: upstream + "glibc-dns-testing:2.0.0", Files: b.debian, Cmd: []string{"sh"}},
		}},
		{"web.tar", []imagetar.Image{
			b.web("nginx:1.15-4"), b.web("nginx:1.27-0"),
			named(b.web("kitten:1.8", "kitten/html/kitten.jpg", "kitten/html/data.json")),
			b.web("nautilus:1.8", "nautilus/html/nautilus.jpg", "nautilus/html/data.json"),
		}},
		{"pause.tar", []imagetar.Image{b.program("registry.k8s.io/pause:3.10.2", "pause", 0o755, "/pause", "65535:65535")}},
		{"etcd.tar", []imagetar.Image{b.program("registry.k8s.io/etcd:3.6.8-0", "etcd", 0o755, "/usr/local/bin/etcd", "")}},
		{"sample-apiserver.tar", []imagetar.Image{b.program(upstream+"sample-apiserver:1.29.2", "sample-apiserver", 0o755, "/sample-apiserver", "")}},
		{"nonewprivs.tar", []imagetar.Image{b.program(upstream+"nonewprivs:1.4", "nnp", 0o755|fs.ModeSetuid|fs.ModeSetgid, "/usr/local/bin/nnp", "")}},
		{"regression-issue-74839.tar", []imagetar.Image{b.program(upstream+"regression-issue-74839:1.4", "regression-issue-74839", 0o755, "/regression-issue-74839", "")}},
	}
	return archives, b.err
}

// builder keeps the first error, so that the list above stays a list.
type builder struct {
	sources Sources
	debian  files // everything in the packages
	small   files // busybox and bash
	err     error
}

func (b *builder) read(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("an image is made of what is missing: %w", err)
	}
	return data
}

func (b *builder) compiled(name string, mode fs.FileMode, at string) imagetar.File {
	return imagetar.File{Path: at, Mode: mode, Data: b.read(filepath.Join(b.sources.Programs, name))}
}

// agnhost follows test/images/agnhost/Dockerfile, on Debian instead of Alpine.
// The tests use the second name for "an older image", whatever is in it.
func (b *builder) agnhost(names ...string) []imagetar.Image {
	porter := filepath.Join(b.sources.Upstream, "test/images/agnhost/porter")
	content := append(slices.Clone(b.debian),
		b.compiled("agnhost", 0o755, "agnhost"),
		link("agnhost-2", "agnhost"),
		link("usr/local/bin/nc", "/bin/nc.openbsd"),
		imagetar.File{Path: "uploads", Mode: fs.ModeDir | 0o755},
		imagetar.File{Path: "localhost.crt", Mode: 0o644, Data: b.read(filepath.Join(porter, "localhost.crt"))},
		imagetar.File{Path: "localhost.key", Mode: 0o644, Data: b.read(filepath.Join(porter, "localhost.key"))},
	)
	var all []imagetar.Image
	for _, name := range names {
		all = append(all, imagetar.Image{Name: name, Files: content, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}})
	}
	return all
}

// web serves files on port 80. In the tests nginx is an image that does so and
// nothing more, so the server inside it is agnhost's, too.
func (b *builder) web(name string, pages ...string) imagetar.Image {
	content := append(slices.Clone(b.small), b.compiled("agnhost", 0o755, "agnhost"))
	for _, page := range pages {
		data := b.read(filepath.Join(b.sources.Upstream, "test/images", page))
		content = append(content, imagetar.File{Path: filepath.Base(page), Mode: 0o644, Data: data})
	}
	return imagetar.Image{Name: upstream + name, Files: content, Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}}
}

// osRelease names what upstream's images are built on.
const osRelease = "NAME=\"Alpine Linux\"\nID=alpine\n"

// named adds the file that a test reads through a volume made of the image, to
// see that all of the image is there. Nothing else about the image is Alpine.
func named(image imagetar.Image) imagetar.Image {
	image.Files = append(slices.Clone(image.Files), imagetar.File{Path: "etc/os-release", Mode: 0o644, Data: []byte(osRelease)})
	return image
}

// program is a static program with busybox beside it.
func (b *builder) program(name, program string, mode fs.FileMode, at, user string) imagetar.Image {
	content := append(slices.Clone(b.small), b.compiled(program, mode, at))
	return imagetar.Image{Name: name, Files: content, Entrypoint: []string{at}, User: user}
}

// Names are the full names of all images, sorted.
func Names(archives []Archive) []string {
	names := map[string]bool{}
	for _, a := range archives {
		for _, i := range a.Images {
			names[i.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
