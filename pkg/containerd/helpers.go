package containerd

import (
	"fmt"
	"os"
	"os/exec"
)

// shimName is what containerd makes of the runtime's name io.containerd.runc.v2
// and looks for in PATH.
const shimName = "containerd-shim-runc-v2"

// linkHelpers makes links whose paths stay when the programs move, as they do
// with every update, and puts them into the configuration. A running shim goes
// on calling runc by the path that it was started with.
func linkHelpers(cfg *Config) error {
	dir := cfg.Layout.Helpers()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the directory of helper programs: %w", err)
	}
	runc, shim := cfg.Layout.Helpers("runc"), cfg.Layout.Helpers(shimName)
	if err := link(cfg.RuncPath, runc); err != nil {
		return err
	}
	if err := link(cfg.ShimPath, shim); err != nil {
		return err
	}
	// containerd takes a shim's path from PATH and from nowhere else, if pods
	// are to be found again after a restart.
	found, err := exec.LookPath(shimName)
	if err != nil || found != shim {
		return fmt.Errorf("the directory %s has to be the first one with a %s in PATH (found %q): start Skiff with it", dir, shimName, found)
	}
	cfg.RuncPath, cfg.ShimPath = runc, shim
	return nil
}

// link points path at target, at once for everyone who uses it.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	fresh := path + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("link the helper program %s: %w", target, err)
	}
	if err := os.Symlink(target, fresh); err != nil {
		return fmt.Errorf("link the helper program %s: %w", target, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("link the helper program %s: %w", target, err)
	}
	return nil
}
