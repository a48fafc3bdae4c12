package embedded

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Unpack makes sure that the payload's files are below the layout's payload
// directory and returns their directory. When they are there already it takes
// one stat per file. Several processes may do it at once: one unpacks, the
// others wait for it. An interrupted unpacking leaves nothing that a later one
// would take for complete.
func (p *Payload) Unpack(ctx context.Context, l layout.Layout) (string, error) {
	root, err := filepath.Abs(filepath.Join(l.Payload(), p.id.Key))
	if err != nil {
		return "", fmt.Errorf("finding the place of Skiff's %s: %w", p.id.Set, err)
	}
	if p.complete(root) {
		return root, checkExecutable(root)
	}
	if err := p.unpackLocked(ctx, filepath.Dir(root), root); err != nil {
		return "", fmt.Errorf("unpacking Skiff's %s into %s (about %d MB; --data-dir chooses another place): %w",
			p.id.Set, root, p.size()>>20+1, err)
	}
	return root, checkExecutable(root)
}

// complete compares names and sizes. Contents were verified before the
// directory got its name.
func (p *Payload) complete(root string) bool {
	for _, f := range p.zip.File {
		info, err := os.Lstat(filepath.Join(root, f.Name))
		if err != nil || info.Mode().Type() != f.Mode().Type() {
			return false
		}
		if info.Mode().IsRegular() && uint64(info.Size()) != f.UncompressedSize64 {
			return false
		}
	}
	return true
}

func (p *Payload) size() (n uint64) {
	for _, f := range p.zip.File {
		n += f.UncompressedSize64
	}
	return n
}

func (p *Payload) unpackLocked(ctx context.Context, base, root string) error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(base, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if p.complete(root) {
		return nil // another process did it meanwhile
	}
	if err := removeLeftovers(base); err != nil {
		return err
	}
	temp := filepath.Join(base, leftoverPrefix+p.id.Key)
	if err := p.extract(ctx, temp); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if err := replaceDir(temp, root); err != nil {
		return err
	}
	if err := point(base, p.id); err != nil {
		return err
	}
	return prune(base)
}

// extract writes all files below dir, verified and on disk when it returns.
func (p *Payload) extract(ctx context.Context, dir string) error {
	dirs := map[string]bool{dir: true}
	for _, f := range p.zip.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("the payload's file name %q leads out of its directory", f.Name)
		}
		parent := filepath.Join(dir, filepath.Dir(f.Name))
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
		dirs[parent] = true
	}
	sums := make([]string, len(p.zip.File))
	group, ctx := errgroup.WithContext(ctx)
	for i, f := range p.zip.File {
		group.Go(func() (err error) {
			sums[i], err = extractFile(ctx, f, filepath.Join(dir, f.Name))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := p.verify(sums); err != nil {
		return err
	}
	for d := range dirs {
		if err := syncPath(d); err != nil {
			return err
		}
	}
	return nil
}

func (p *Payload) verify(sums []string) error {
	whole := sha256.New()
	for i, f := range p.zip.File {
		fmt.Fprint(whole, ManifestLine(f.Name, f.Mode(), sums[i]))
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != p.id.Key {
		return fmt.Errorf("the payload in %s is damaged: its files have the sum %s; install Skiff again", p.file.Name(), got)
	}
	return nil
}

func extractFile(ctx context.Context, f *zip.File, path string) (sum string, err error) {
	src, err := f.Open()
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", f.Name, err)
	}
	defer src.Close()
	hash := sha256.New()
	in := io.TeeReader(readerFunc(func(b []byte) (int, error) {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		return src.Read(b)
	}), hash)
	if f.Mode().Type() == fs.ModeSymlink {
		var target strings.Builder
		if _, err := io.Copy(&target, in); err != nil {
			return "", fmt.Errorf("reading %s: %w", f.Name, err)
		}
		return hex.EncodeToString(hash.Sum(nil)), os.Symlink(target.String(), path)
	}
	if err := writeFile(path, f.Mode().Perm(), in); err != nil {
		return "", fmt.Errorf("writing %s: %w", f.Name, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func writeFile(path string, mode fs.FileMode, src io.Reader) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, src); err != nil {
		return err
	}
	// Chmod, because the umask took its share of the mode given to open.
	if err := out.Chmod(mode); err != nil {
		return err
	}
	return out.Sync()
}
