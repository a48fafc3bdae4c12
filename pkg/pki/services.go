package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/internal/lockfile"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

// leafFiles are the certificates of one service: what people call them by.
type leafFiles struct {
	service string
	files   []CertKey
}

// leavesOf are all certificates that there may be on a machine, apart from CAs.
func leavesOf(l layout.Layout) []leafFiles {
	s, n, e := ServerFilesOf(l), NodeFilesOf(l), EtcdFilesOf(l)
	return []leafFiles{
		{"api-server", []CertKey{s.Serving}},
		{"admin", []CertKey{s.Admin}},
		{"kubelet-client", []CertKey{s.KubeletClient}},
		{"auth-proxy", []CertKey{s.AuthProxy}},
		{"etcd", []CertKey{e.Server, e.Client, e.Peer}},
		{"kubelet", []CertKey{n.Serving, n.Kubelet}},
		{"kube-proxy", []CertKey{n.Proxy}},
		{"node", []CertKey{n.NodeAgent}},
	}
}

// Services are the names by which certificates are chosen.
func Services() []string {
	var names []string
	for _, s := range leavesOf(layout.Default()) {
		names = append(names, s.service)
	}
	return names
}

// RemoveLeaves has the next start issue the certificates of some services anew,
// or without any of all that there are: it removes them, on a machine where
// nothing runs. On an agent it leaves the one with which the node asks for
// others. The error is a *lockfile.HeldError while something runs.
func RemoveLeaves(l layout.Layout, services []string) ([]string, error) {
	files, err := filesOf(l, services)
	if err != nil {
		return nil, err
	}
	lock, err := lockfile.Acquire(l.Lock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	agent := !IsServer(l)
	var removed []string
	for _, f := range files {
		if agent && f == NodeFilesOf(l).NodeAgent {
			// It is what the node asks with: where another is gone it is replaced, too.
			f = NodeFilesOf(l).Serving
		}
		switch err := os.Remove(f.Cert); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return removed, fmt.Errorf("removing a certificate: %w", err)
		}
		removed = append(removed, f.Cert)
	}
	return removed, nil
}

// IsServer says whether the machine has the CAs of a cluster.
func IsServer(l layout.Layout) bool {
	_, err := os.Stat(ServerFilesOf(l).ServerCA.Key)
	return err == nil
}

// Running says whether the error is that a skiff runs on this data directory.
func Running(err error) bool {
	_, ok := errors.AsType[*lockfile.HeldError](err)
	return ok
}

// ReplaceCAs is RotateCA on a machine where nothing runs.
func ReplaceCAs(l layout.Layout, set CASet, force bool, now time.Time) ([]string, error) {
	lock, err := lockfile.Acquire(l.Lock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	return RotateCA(l, set, force, now)
}

// filesOf are the certificates of services; none stands for all.
func filesOf(l layout.Layout, services []string) ([]CertKey, error) {
	for _, name := range services {
		if !slices.Contains(Services(), name) {
			return nil, fmt.Errorf("there are no certificates of %q; choose from %s", name, strings.Join(Services(), ", "))
		}
	}
	var all []CertKey
	for _, s := range leavesOf(l) {
		if len(services) == 0 || slices.Contains(services, s.service) {
			all = append(all, s.files...)
		}
	}
	return all, nil
}
