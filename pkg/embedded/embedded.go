// Package embedded finds the small helper programs that must be processes of
// their own (runc, the containerd shim, CNI plugins) and the pause image. They
// travel at the end of Skiff's executable as a zip archive, which leaves the
// executable as it is and lets unzip(1) list them; they are unpacked once, into
// a directory named by their content. A build without an archive uses what the
// machine has in its PATH. The package imports only layout; the wiring and the
// launcher import it, and components get the paths that it found.
package embedded

import (
	"archive/zip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// PauseImageName is how the pause image is called in the archive of images.
// The domain can never be resolved, so a lost image is an error that names it
// and not a download from somebody's registry.
const PauseImageName = "skiff.invalid/pause:1"

// ErrNone says that the executable was built without a payload.
var ErrNone = errors.New("the executable carries no payload")

// methodZstd is the zip format's number for Zstandard (APPNOTE 4.4.5).
const methodZstd = 93

// maxWindow is the largest match distance that pack uses, 128 MiB. It bounds
// the memory that unpacking takes per file.
const maxWindow = 128 << 20

// Payload is a set of files at the end of an executable. Its methods may be
// called from several goroutines; Close may not run beside them.
type Payload struct {
	file *os.File
	zip  *zip.Reader
	id   ID
}

// Open opens the payload of the running executable. The error is ErrNone when
// it has none.
func Open() (*Payload, error) {
	return OpenFile("/proc/self/exe")
}

// OpenFile opens the payload at the end of a file.
func OpenFile(path string) (*Payload, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the payload: %w", err)
	}
	p, err := newPayload(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func newPayload(f *os.File) (*Payload, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the payload: %w", err)
	}
	r, err := zip.NewReader(f, info.Size())
	if errors.Is(err, zip.ErrFormat) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading the payload's directory in %s: %w", f.Name(), err)
	}
	id, err := ParseID(r.Comment)
	if err != nil {
		return nil, fmt.Errorf("reading the payload's directory in %s: %w", f.Name(), err)
	}
	r.RegisterDecompressor(methodZstd, zstd.ZipDecompressor(
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)))
	return &Payload{file: f, zip: r, id: id}, nil
}

// ID is what the payload's content is known by.
func (p *Payload) ID() ID { return p.id }

// Close closes the executable.
func (p *Payload) Close() error { return p.file.Close() }

// ID names a set of files; the archive's comment holds it as text.
type ID struct {
	// Set is what the files are for: "helpers" or "program". Sets of the
	// same kind replace each other.
	Set string
	// Key is the hexadecimal SHA-256 of Manifest.
	Key string
}

const idPrefix = "skiff-payload "

// String is the archive's comment.
func (id ID) String() string { return idPrefix + id.Set + " sha256:" + id.Key }

// ParseID reads an archive's comment.
func ParseID(comment string) (ID, error) {
	rest, ours := strings.CutPrefix(comment, idPrefix)
	set, key, cut := strings.Cut(rest, " sha256:")
	if !ours || !cut || set == "" || len(key) != 64 {
		return ID{}, fmt.Errorf("the archive at the end is not a payload of Skiff (comment %q)", comment)
	}
	return ID{Set: set, Key: key}, nil
}

// ManifestLine is a file's share of the text whose SHA-256 is the payload's
// key. Lines are in the order of the archive; sum is the hexadecimal SHA-256 of
// the content, for a symbolic link of its target.
func ManifestLine(name string, mode fs.FileMode, sum string) string {
	return fmt.Sprintf("%s %v %s\n", sum, mode, name)
}
