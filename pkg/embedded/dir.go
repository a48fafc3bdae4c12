package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// Dir knows where the helper programs are. It is a value that never changes.
type Dir struct {
	runc, shim, cni, pause string
}

// Runc is the path of the OCI runtime.
func (d Dir) Runc() string { return d.runc }

// Shim is the path of containerd-shim-runc-v2.
func (d Dir) Shim() string { return d.shim }

// CNIBin is the directory of the CNI plugins.
func (d Dir) CNIBin() string { return d.cni }

// PauseImage is the path of an image archive that holds PauseImageName. It is
// empty when the helpers come from PATH: a registry's image must then be used.
func (d Dir) PauseImage() string { return d.pause }

// CNIPlugins are the plugins that every Dir has.
func CNIPlugins() []string { return []string{"bridge", "host-local", "loopback", "portmap"} }

// Find returns the helper programs of the running executable, unpacked, or the
// machine's own when the executable was built without them.
func Find(ctx context.Context, l layout.Layout) (Dir, error) {
	p, err := Open()
	if errors.Is(err, ErrNone) {
		return fromPath()
	}
	if err != nil {
		return Dir{}, err
	}
	defer p.Close()
	return p.Helpers(ctx, l)
}

// Helpers unpacks the payload, which must be the set of helper programs.
func (p *Payload) Helpers(ctx context.Context, l layout.Layout) (Dir, error) {
	root, err := p.Unpack(ctx, l)
	if err != nil {
		return Dir{}, err
	}
	bin := filepath.Join(root, "bin")
	return Dir{
		runc:  filepath.Join(bin, "runc"),
		shim:  filepath.Join(bin, "containerd-shim-runc-v2"),
		cni:   bin,
		pause: filepath.Join(root, "images", "pause.tar"),
	}, nil
}

// fromPath looks for helpers that distributions' packages install.
func fromPath() (Dir, error) {
	var d Dir
	var missing []string
	find := func(name string) string {
		path, err := exec.LookPath(name)
		if err != nil {
			missing = append(missing, name)
		}
		return path
	}
	d.runc, d.shim = find("runc"), find("containerd-shim-runc-v2")
	for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
		if hasPlugins(dir) {
			d.cni = dir
			break
		}
	}
	if d.cni == "" {
		missing = append(missing, "the CNI plugins "+strings.Join(CNIPlugins(), ", ")+" (in /opt/cni/bin or /usr/lib/cni)")
	}
	if len(missing) > 0 {
		return Dir{}, fmt.Errorf("this build of skiff carries no helper programs, and the machine lacks %s; `make build` makes a bin/skiff that carries them",
			strings.Join(missing, ", "))
	}
	return d, nil
}

func hasPlugins(dir string) bool {
	for _, name := range CNIPlugins() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}
