// Package admin is what commands of an administrator do to a running cluster:
// a small client for the API that takes its credential from a kubeconfig, and
// what there is to do with bootstrap tokens. It has no part of client-go, which
// would cost every command its start. Commands import it.
package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// kubeconfig is the part of the file that a client needs.
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User user   `json:"user"`
	} `json:"users"`
}

type cluster struct {
	Server     string `json:"server"`
	CA         []byte `json:"certificate-authority-data"`
	CAFile     string `json:"certificate-authority"`
	Insecure   bool   `json:"insecure-skip-tls-verify"`
	ServerName string `json:"tls-server-name"`
}

type user struct {
	Cert      []byte `json:"client-certificate-data"`
	CertFile  string `json:"client-certificate"`
	Key       []byte `json:"client-key-data"`
	KeyFile   string `json:"client-key"`
	Token     string `json:"token"`
	TokenFile string `json:"tokenFile"`
}

// access is what a kubeconfig's current context says.
type access struct {
	server *url.URL
	tls    *tls.Config
	token  string
}

// readKubeconfig reads the current context of a kubeconfig.
func readKubeconfig(path string) (access, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return access{}, fmt.Errorf("there is no kubeconfig %s: run this on a server, or name another with --kubeconfig", path)
	case errors.Is(err, fs.ErrPermission):
		return access{}, fmt.Errorf("%s may not be read by this user: try again with sudo, or name another with --kubeconfig", path)
	case err != nil:
		return access{}, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		// The parser's message may quote the file, which has a key in it.
		return access{}, fmt.Errorf("%s is no kubeconfig: it cannot be parsed", path)
	}
	a, err := k.access(filepath.Dir(path))
	if err != nil {
		return access{}, fmt.Errorf("the kubeconfig %s: %w", path, err)
	}
	return a, nil
}

func (k kubeconfig) access(dir string) (access, error) {
	c, u, err := k.current()
	if err != nil {
		return access{}, err
	}
	a := access{tls: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure, ServerName: c.ServerName}}
	if a.server, err = url.Parse(c.Server); err != nil || a.server.Scheme != "https" || a.server.Host == "" {
		return access{}, fmt.Errorf("its server %q is no https URL", c.Server)
	}
	ca, err := dataOrFile(c.CA, c.CAFile, dir)
	if err != nil {
		return access{}, err
	}
	if len(ca) > 0 {
		a.tls.RootCAs = x509.NewCertPool()
		if !a.tls.RootCAs.AppendCertsFromPEM(ca) {
			return access{}, errors.New("its certificate authority has no certificate in it")
		}
	}
	if err := a.identify(u, dir); err != nil {
		return access{}, err
	}
	return a, nil
}

func (a *access) identify(u user, dir string) error {
	cert, err := dataOrFile(u.Cert, u.CertFile, dir)
	if err != nil {
		return err
	}
	key, err := dataOrFile(u.Key, u.KeyFile, dir)
	if err != nil {
		return err
	}
	text, err := dataOrFile([]byte(u.Token), u.TokenFile, dir)
	if err != nil {
		return err
	}
	a.token = string(text)
	if len(cert) == 0 {
		if a.token == "" {
			return errors.New("its user has neither a client certificate nor a token")
		}
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("its client certificate and key: %w", err)
	}
	a.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// current are cluster and user of the current context.
func (k kubeconfig) current() (cluster, user, error) {
	for _, c := range k.Contexts {
		if c.Name != k.CurrentContext {
			continue
		}
		for _, cl := range k.Clusters {
			if cl.Name != c.Context.Cluster {
				continue
			}
			for _, u := range k.Users {
				if u.Name == c.Context.User {
					return cl.Cluster, u.User, nil
				}
			}
		}
	}
	return cluster{}, user{}, errors.New("it has no current context with a cluster and a user: choose one with kubectl config use-context")
}

// dataOrFile is what an entry has, or the file that it names.
func dataOrFile(data []byte, file, dir string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	return os.ReadFile(file)
}
