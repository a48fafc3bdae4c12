package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// probeOverlay mounts an overlay where containerd will have its own.
func probeOverlay(_ context.Context, s *system, opts Options, _ *Facts, r *report) {
	if !opts.Overlay {
		return
	}
	dir := s.nearest(opts.DataDir)
	err := s.tryOverlay(s.path(dir))
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODEV):
		r.problem("the kernel has no overlay file system, which container images are mounted with",
			"modprobe overlay, or choose --snapshotter native")
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC):
		r.problem(fmt.Sprintf("%s cannot be written: %v", dir, err), "choose another --data-dir")
	default:
		r.problem(fmt.Sprintf("an overlay cannot be mounted in %s (the file system may be one itself, as in a container): %v", dir, err),
			"put --data-dir on ext4 or xfs (in a container: on a volume), or choose --snapshotter native")
	}
}

func (s *system) tryOverlay(parent string) (err error) {
	dir, err := os.MkdirTemp(parent, ".skiff-overlay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	merged := filepath.Join(dir, "merged")
	data := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := s.mount("overlay", merged, "overlay", 0, data); err != nil {
		return err
	}
	return s.unmount(merged)
}

// probePropagation plans to make mounts shared, so that what is mounted on the
// host or by a CSI driver's pod is seen in other pods and the other way round.
func probePropagation(_ context.Context, s *system, opts Options, _ *Facts, r *report) {
	private := func() string {
		mounts, err := s.mounts()
		if err != nil {
			return ""
		}
		for _, path := range []string{"/", opts.DataDir, layout.KubeletRoot} {
			if m, ok := mountOf(mounts, path); ok && !m.shared {
				return m.path
			}
		}
		return ""
	}
	path := private()
	if path == "" {
		return
	}
	r.mend(change{
		what: "share mounts below / (" + path + " was private)",
		mend: "mount --make-rshared / (in a container: --mount with bind-propagation=rshared)",
		done: func() bool { return private() == "" },
		do: func(context.Context) error {
			return s.mount("", s.path("/"), "", unix.MS_REC|unix.MS_SHARED, "")
		},
	})
}
