package nshost

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// overlaid are the machine's directories that a host sees through an overlay:
// programs and configuration are there, changes stay in the host.
var overlaid = []string{"usr", "etc", "opt"}

// own are directories that start empty in every host, on the machine's disk
// so that fsync means something and overlay mounts can be stacked on them.
var own = []string{"root", "home", "srv", "mnt", "tmp", "var/lib", "var/log", "var/tmp", "var/cache", "var/spool"}

// hidden are left-overs of a Kubernetes on the machine which a host must not see.
var hidden = []string{
	"etc/skiff", "etc/cni", "etc/kubernetes", "etc/rancher", "etc/containerd",
	"opt/cni", "usr/libexec/kubernetes", "usr/local/bin/skiff", "usr/local/bin/kubectl",
}

// buildRoot assembles the host's root below s.root() and makes it the root.
func buildRoot(s spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	root := s.root()
	steps := []func(spec, string) error{
		mountRoot, mountOverlays, linkTopLevel, mountKernel, coverBootID, mountCgroups, mountBinds, writeEtc, pivot,
	}
	for _, step := range steps {
		if err := step(s, root); err != nil {
			return err
		}
	}
	return nil
}

func mountRoot(_ spec, root string) error {
	for _, d := range append([]string{"proc", "sys", "dev", "run"}, own...) {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, d), 0o777|fs.ModeSticky); err != nil {
			return err
		}
	}
	if err := symlink("/run", filepath.Join(root, "var/run")); err != nil {
		return err
	}
	return bind(root, root, 0)
}

func mountOverlays(s spec, root string) error {
	overlays := filepath.Join(s.Dir, "overlay")
	_, err := os.Stat(overlays)
	firstBoot := errors.Is(err, fs.ErrNotExist)
	for _, name := range overlaid {
		upper := filepath.Join(overlays, name, "upper")
		work := filepath.Join(overlays, name, "work")
		target := filepath.Join(root, name)
		for _, d := range []string{upper, work, target} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", name, upper, work)
		if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
			return fmt.Errorf("mounting the host's /%s over %s (is it on a file system that overlays can write to? "+
				"choose another directory with SKIFF_TEST_DIR): %w", name, s.Dir, err)
		}
	}
	// Later, what is there is the host's own.
	if !firstBoot {
		return nil
	}
	for _, name := range hidden {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("hiding the machine's /%s: %w", name, err)
		}
	}
	return nil
}

// linkTopLevel gives the host the machine's /bin, /lib and so on, which are
// symbolic links into /usr or, on older systems, directories.
func linkTopLevel(_ spec, root string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := os.Lstat("/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		target := filepath.Join(root, name)
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink("/" + name)
			if err != nil {
				return err
			}
			if err := symlink(to, target); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := bind("/"+name, target, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

func mountKernel(_ spec, root string) error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mounts := []struct {
		source, target, kind string
		flags                uintptr
		options              string
	}{
		{"proc", "proc", "proc", safe, ""},
		{"sysfs", "sys", "sysfs", safe, ""},
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, filepath.Join(root, m.target), m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mounting the host's /%s: %w", m.target, err)
		}
	}
	return os.MkdirAll(filepath.Join(root, "run/lock"), 0o755)
}

// coverBootID gives every start of the host an identity of its own: the kubelet
// tells by it that its host has been started again.
func coverBootID(s spec, root string) error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "boot_id")
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	return bind(file, filepath.Join(root, "proc/sys/kernel/random/boot_id"), unix.MS_RDONLY)
}

// mountCgroups shows the hierarchies as the cgroup namespace has them: the
// host's own cgroup is the root of each.
func mountCgroups(s spec, root string) error {
	base := filepath.Join(root, "sys/fs/cgroup")
	if len(s.Cgroups) != 1 || s.Cgroups[0].Type != "cgroup2" {
		if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
			return fmt.Errorf("mounting the host's /sys/fs/cgroup: %w", err)
		}
	}
	for _, h := range s.Cgroups {
		target := filepath.Join(root, h.Mount)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(h.Type, target, h.Type, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, h.Options); err != nil {
			return fmt.Errorf("mounting the host's %s (%s): %w", h.Mount, h.Options, err)
		}
	}
	return nil
}

func mountBinds(s spec, root string) error {
	for _, b := range s.Binds {
		target := filepath.Join(root, b.Target)
		info, err := os.Stat(b.Source)
		if err != nil {
			return fmt.Errorf("showing %s to the host: %w", b.Source, err)
		}
		if err := mountPoint(target, info.IsDir()); err != nil {
			return err
		}
		var flags uintptr
		if b.ReadOnly {
			flags = unix.MS_RDONLY
		}
		if err := bind(b.Source, target, flags); err != nil {
			return err
		}
	}
	return nil
}

func mountPoint(target string, directory bool) error {
	if directory {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	return f.Close()
}

func writeEtc(s spec, root string) error {
	files := map[string]string{
		"resolv.conf": fmt.Sprintf("nameserver %s\noptions timeout:2 attempts:2\n", s.Gateways[0]),
		"hostname":    s.Hostname + "\n",
		"hosts":       s.hostsFile(),
		"machine-id":  machineID(s.ID) + "\n",
	}
	for name, content := range files {
		path := filepath.Join(root, "etc", name)
		// The machine's may be a symbolic link out of /etc: replace, never follow.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// machineID derives 32 hexadecimal digits from the host's unique name.
func machineID(id string) string {
	hexed := fmt.Sprintf("%x", id)
	return (strings.Repeat("0", 32) + hexed)[len(hexed):]
}

func pivot(_ spec, root string) error {
	if err := os.MkdirAll(filepath.Join(root, ".machine"), 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, filepath.Join(root, ".machine")); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.machine", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the machine's root: %w", err)
	}
	if err := os.Remove("/.machine"); err != nil {
		return err
	}
	// As systemd leaves it: the kubelet wants to see its mounts propagate.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, target, err)
	}
	if flags == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("binding %s to %s read-only: %w", source, target, err)
	}
	return nil
}

func symlink(to, path string) error {
	err := os.Symlink(to, path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
