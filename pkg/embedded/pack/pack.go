// Package pack makes the archives that package embedded reads. Build scripts
// and tests import it; the program itself has no use for it.
package pack

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// File is one file of a payload.
type File struct {
	Name string      // path below the payload's directory, with slashes
	Mode fs.FileMode // permissions; with fs.ModeSymlink, Data is the target
	Data []byte
	// Packed is Data as one Zstandard frame with a window of at most 128 MiB;
	// nil has Data compressed here, quickly and not very well.
	Packed []byte
}

// Identify computes what a set of files is known by.
func Identify(set string, files []File) embedded.ID {
	var manifest strings.Builder
	for _, f := range files {
		sum := sha256.Sum256(f.Data)
		manifest.WriteString(embedded.ManifestLine(f.Name, f.Mode, hex.EncodeToString(sum[:])))
	}
	key := sha256.Sum256([]byte(manifest.String()))
	return embedded.ID{Set: set, Key: hex.EncodeToString(key[:])}
}

// Append copies the executable base to w and writes the payload behind it.
// The same input gives the same output, byte for byte.
func Append(w io.Writer, base io.Reader, set string, files []File) error {
	n, err := io.Copy(w, base)
	if err != nil {
		return fmt.Errorf("copying the executable: %w", err)
	}
	z := zip.NewWriter(w)
	z.SetOffset(n)
	for _, f := range files {
		if err := add(z, f); err != nil {
			return fmt.Errorf("packing %s: %w", f.Name, err)
		}
	}
	if err := z.SetComment(Identify(set, files).String()); err != nil {
		return err
	}
	return z.Close()
}

func add(z *zip.Writer, f File) error {
	packed := f.Packed
	if packed == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		packed = enc.EncodeAll(f.Data, nil)
	}
	header := &zip.FileHeader{
		Name:               f.Name,
		Method:             93, // Zstandard
		CRC32:              crc32.ChecksumIEEE(f.Data),
		CompressedSize64:   uint64(len(packed)),
		UncompressedSize64: uint64(len(f.Data)),
	}
	header.SetMode(f.Mode)
	out, err := z.CreateRaw(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, bytes.NewReader(packed))
	return err
}

// AppendFile is Append from and to files. The result is executable, and out
// is complete, tried by unpacking it, or unchanged.
func AppendFile(out, base, set string, files []File) error {
	src, err := os.Open(base)
	if err != nil {
		return err
	}
	defer src.Close()
	temp, err := os.CreateTemp(filepath.Dir(out), ".pack-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := Append(temp, src, set, files); err != nil {
		return err
	}
	if err := temp.Chmod(0o755); err != nil {
		return err
	}
	if err := try(temp.Name()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), out)
}

func try(path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := embedded.OpenFile(path)
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Unpack(context.Background(), layout.Layout{Data: dir})
	return err
}
