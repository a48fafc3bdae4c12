package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// State is how a certificate is.
type State string

// The states.
const (
	StateOK      State = "ok"
	StateDue     State = "due"     // will be renewed, or for a CA: has to be replaced before long
	StateExpired State = "expired" //
	StateEarly   State = "early"   // not valid yet: the clock is behind
	StateBroken  State = "broken"  // cannot be read, or its key is another's
)

// Kind is what a certificate is for.
type Kind string

// The kinds.
const (
	KindCA          Kind = "CA"
	KindOldCA       Kind = "old CA" // trusted beside the one that signs
	KindCertificate Kind = "certificate"
	KindKubeconfig  Kind = "kubeconfig"
)

// Info is a certificate on this machine.
type Info struct {
	Service string    `json:"service"`
	Kind    Kind      `json:"kind"`
	File    string    `json:"file"`
	Subject string    `json:"subject,omitempty"`
	Expires time.Time `json:"expires"`
	// Due is when it is renewed; of a CA when it should have been replaced.
	Due     time.Time `json:"due"`
	State   State     `json:"state"`
	Problem string    `json:"problem,omitempty"`
}

// Inspect looks at all certificates of this machine that there are. It changes
// nothing.
func Inspect(l layout.Layout, now time.Time) ([]Info, error) {
	var all []Info
	s, n, e := ServerFilesOf(l), NodeFilesOf(l), EtcdFilesOf(l)
	for _, ca := range []struct {
		name string
		file string
	}{
		{"server-ca", s.ServerCA.Cert}, {"client-ca", s.ClientCA.Cert}, {"request-header-ca", s.RequestHeaderCA.Cert},
		{"etcd-server-ca", e.ServerCA.Cert}, {"etcd-peer-ca", e.PeerCA.Cert},
		{"server-ca", n.ServerCA}, {"client-ca", n.ClientCA},
	} {
		all = append(all, inspectCA(ca.name, ca.file, now)...)
	}
	for _, leaf := range leavesOf(l) {
		for _, files := range leaf.files {
			all = append(all, inspectLeaf(leaf.service, files, now)...)
		}
	}
	all = append(all, inspectKubeconfig(l.Kubeconfig(), now)...)
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no certificates below %s: skiff makes them when it runs for the first time; --data-dir names another directory", l.Data)
	}
	return all, nil
}

func inspectCA(name, file string, now time.Time) []Info {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info := Info{Service: name, Kind: KindCA, File: file}
	var certs []*x509.Certificate
	if err == nil {
		certs, err = parseCerts(file, data)
	}
	if err != nil {
		info.State, info.Problem = StateBroken, err.Error()
		return []Info{info}
	}
	var all []Info
	for i, c := range certs {
		if i > 0 {
			if !selfSigned(c) {
				continue
			}
			info.Kind = KindOldCA
		}
		info.judge(c, c.NotAfter.Add(-caWarning), now)
		all = append(all, info)
	}
	return all
}

func inspectLeaf(service string, files CertKey, now time.Time) []Info {
	if _, err := os.Lstat(files.Cert); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info := Info{Service: service, Kind: KindCertificate, File: files.Cert}
	p, reason := readLeaf(files)
	if reason != "" {
		info.State, info.Problem = StateBroken, reason
		return []Info{info}
	}
	info.judge(p.cert, renewAt(p.cert), now)
	return []Info{info}
}

// clientData finds the certificate in a kubeconfig of ours, which has one.
var clientData = regexp.MustCompile(`(?m)^\s*client-certificate-data:\s*"?([A-Za-z0-9+/=]+)"?\s*$`)

func inspectKubeconfig(file string, now time.Time) []Info {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info := Info{Service: "admin", Kind: KindKubeconfig, File: file}
	var certs []*x509.Certificate
	if err == nil {
		if m := clientData.FindSubmatch(data); m == nil {
			err = errors.New("there is no client certificate in it")
		} else if pemData, bad := base64.StdEncoding.DecodeString(string(m[1])); bad != nil {
			err = bad
		} else {
			certs, err = parseCerts(file, pemData)
		}
	}
	if err != nil {
		info.State, info.Problem = StateBroken, err.Error()
		return []Info{info}
	}
	info.judge(certs[0], renewAt(certs[0]), now)
	return []Info{info}
}

func (i *Info) judge(c *x509.Certificate, due, now time.Time) {
	i.Subject, i.Expires, i.Due = c.Subject.CommonName, c.NotAfter.UTC(), due.UTC()
	switch {
	case now.Before(c.NotBefore):
		i.State = StateEarly
	case now.After(c.NotAfter):
		i.State = StateExpired
	case !now.Before(due):
		i.State = StateDue
	default:
		i.State = StateOK
	}
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
