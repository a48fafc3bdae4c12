package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// replace puts the staged files in the place of a server's, and gives where
// those are now. From its first rename to its last a mark keeps servers from
// starting with a part of each.
func (r *restore) replace() (kept string, err error) {
	l := r.cfg.Layout
	kept = l.BeforeRestore(time.Now().UTC().Format("20060102-150405"))
	for n := 2; exists(kept); n++ {
		kept = fmt.Sprintf("%s-%d", strings.TrimSuffix(kept, fmt.Sprintf("-%d", n-1)), n)
	}
	if err := atomicfile.Write(l.RestoreMark(), []byte(kept+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("%w; nothing was changed", err)
	}
	moved, err := setAside(l, kept)
	if err == nil {
		err = settle(r.staged, l)
	}
	if err != nil {
		return "", fmt.Errorf("replacing the server's files: %w. Skiff does not start before a restore has succeeded; the state from before is in %s", err, kept)
	}
	if err := os.Remove(l.RestoreMark()); err != nil {
		return "", fmt.Errorf("ending the restore: %w", err)
	}
	if !moved {
		kept = ""
	}
	return kept, atomicfile.SyncDir(l.Server())
}

// unfinished is the error of a start after a restore that was interrupted.
func unfinished(l layout.Layout) error {
	kept, err := os.ReadFile(l.RestoreMark())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("a restore was interrupted and has left parts of two states: run skiff snapshot restore again. The state from before it is in %s; to go back to that one, move what is in there to %s and remove %s",
		strings.TrimSpace(string(kept)), l.Server(), l.RestoreMark())
}

// stays says which files of a server are the machine's and no state of the
// cluster: a restore leaves them where they are.
func stays(l layout.Layout, name string) bool {
	return strings.HasPrefix(name, layout.BeforeRestorePrefix) || strings.HasPrefix(name, ".") ||
		slices.Contains([]string{filepath.Base(l.RestoreMark()), "manifests", "static"}, name)
}

// setAside moves a server's files to another directory.
func setAside(l layout.Layout, to string) (moved bool, err error) {
	entries, err := os.ReadDir(l.Server())
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case stays(l, name):
		case name == filepath.Base(l.Database()):
			some, err := setDatabaseAside(l, filepath.Join(to, name))
			if err != nil {
				return moved, err
			}
			moved = moved || some
		default:
			if err := move(filepath.Join(l.Server(), name), filepath.Join(to, name)); err != nil {
				return moved, err
			}
			moved = true
		}
	}
	return moved, nil
}

// setDatabaseAside leaves the snapshots where they are.
func setDatabaseAside(l layout.Layout, to string) (moved bool, err error) {
	entries, err := os.ReadDir(l.Database())
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		from := filepath.Join(l.Database(), e.Name())
		if from == l.Snapshots() {
			continue
		}
		if err := move(from, filepath.Join(to, e.Name())); err != nil {
			return moved, err
		}
		moved = true
	}
	return moved, nil
}

func move(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(to))
}

// settle moves staged files to their places.
func settle(staged, l layout.Layout) error {
	return errors.Join(moveAll(staged.Database(), l.Database()), moveAll(staged.Server(), l.Server()))
}

// moveAll moves what is in a directory, but for what is there already: the
// directory of the datastore, which has been emptied before.
func moveAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join(to, e.Name())
		if e.IsDir() && exists(target) {
			continue
		}
		if err := move(filepath.Join(from, e.Name()), target); err != nil {
			return err
		}
	}
	return nil
}
