package pki

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// kubeconfig has one cluster, one user and one context of the same name, with
// either data or files.
type kubeconfig struct {
	name   string
	server string

	caData     []byte
	client     pair
	caFile     string
	clientFile CertKey
}

// kubeconfigTemplate is filled by hand and not by a YAML encoder: four files
// are rendered at every start, to be compared with what is there.
const kubeconfigTemplate = `apiVersion: v1
kind: Config
clusters:
- name: %[1]q
  cluster:
    server: %[2]q
    %[3]s
users:
- name: %[1]q
  user:
    %[4]s
    %[5]s
contexts:
- name: %[1]q
  context:
    cluster: %[1]q
    user: %[1]q
current-context: %[1]q
`

func (k kubeconfig) render() []byte {
	return fmt.Appendf(nil, kubeconfigTemplate, k.name, k.server,
		dataOrFile("certificate-authority", k.caData, k.caFile),
		dataOrFile("client-certificate", k.client.certPEM, k.clientFile.Cert),
		dataOrFile("client-key", k.client.keyPEM, k.clientFile.Key))
}

// dataOrFile is one entry. Go's quoted strings are valid in YAML.
func dataOrFile(key string, data []byte, file string) string {
	if len(data) > 0 {
		return key + "-data: " + base64.StdEncoding.EncodeToString(data)
	}
	return fmt.Sprintf("%s: %q", key, file)
}

// writeAdminKubeconfig writes the administrator's kubeconfig where the user
// wants it. It holds data instead of file names, so that it can be copied.
func (c ServerConfig) writeAdminKubeconfig(caBundle []byte, admin pair) error {
	data := kubeconfig{
		name:   cmp.Or(c.Kubeconfig.Name, "default"),
		server: LocalURL(c.Listener),
		caData: caBundle,
		client: admin,
	}.render()
	usual := c.Layout.Kubeconfig()
	path := cmp.Or(c.Kubeconfig.Output, usual)
	mode := cmp.Or(c.Kubeconfig.Mode, secretMode)
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(usual)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the directory of the kubeconfig: %w", err)
		}
	}
	if err := writeForGroup(path, data, mode, c.Kubeconfig.Group); err != nil {
		return fmt.Errorf("the administrator's kubeconfig: %w", err)
	}
	if path == usual {
		return nil
	}
	return ensureSymlink(usual, path)
}

// writeForGroup writes a secret of which a group may have a share. The group
// is set before the mode lets it in.
func writeForGroup(path string, data []byte, mode fs.FileMode, group string) error {
	if group == "" {
		_, err := atomicfile.WriteIfChanged(path, data, mode)
		return err
	}
	gid, err := lookupGroup(group)
	if err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Gid) == gid {
			_, err := atomicfile.WriteIfChanged(path, data, info.Mode().Perm())
			return errors.Join(err, finishGroup(path, mode, gid))
		}
	}
	if err := atomicfile.Write(path, data, secretMode); err != nil {
		return err
	}
	return finishGroup(path, mode, gid)
}

func finishGroup(path string, mode fs.FileMode, gid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Gid) != gid {
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("giving %s to group %d: %w", path, gid, err)
		}
	}
	if info.Mode().Perm() == mode.Perm() {
		return nil
	}
	return os.Chmod(path, mode.Perm())
}

func lookupGroup(name string) (int, error) {
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("write-kubeconfig-group: there is no group %q on this host (groupadd %s): %w", name, name, err)
	}
	return strconv.Atoi(g.Gid)
}

// ensureSymlink lets the usual place lead to where the user wants the file.
func ensureSymlink(link, target string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return fmt.Errorf("linking %s: %w", link, err)
	}
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	tmp := link + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", link, err)
	}
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("linking %s: %w", link, err)
	}
	if err := os.Rename(tmp, link); err != nil {
		return fmt.Errorf("linking %s: %w", link, errors.Join(err, os.Remove(tmp)))
	}
	return nil
}
