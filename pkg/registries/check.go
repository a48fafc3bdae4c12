package registries

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// meant is the way to mend a key that does not exist.
func meant(name string, names []string) string {
	slices.Sort(names)
	// Suggest compares with names that have hyphens.
	plain := make([]string, len(names))
	for i, n := range names {
		plain[i] = strings.ReplaceAll(n, "_", "-")
	}
	if s := config.Suggest(name, plain); s != "" {
		return "did you mean " + names[slices.Index(plain, s)] + "?"
	}
	return "choose one of " + strings.Join(names, ", ")
}

// registry looks at the name of a registry: a host, perhaps with a port.
func (p *parser) registry(name *yaml.Node, at string) {
	if name.Value == wildcard {
		return
	}
	u, err := url.Parse("https://" + name.Value)
	if err != nil || u.Host != name.Value || u.Hostname() == "" || strings.ContainsAny(name.Value, `\*%`) {
		p.problem(name.Line, at, "it is not the name of a registry", `write host or host:port without https:// and path, or "*" for all others`)
	}
}

func (p *parser) mirror(n *yaml.Node, at string) []endpoint {
	var endpoints []endpoint
	prefix := ""
	p.fields(n, at, map[string]func(*yaml.Node, string){
		"endpoint": func(n *yaml.Node, at string) { endpoints = p.endpoints(n, at) },
		"rewrite":  func(n *yaml.Node, at string) { prefix = p.rewrite(n, at) },
	})
	if prefix == "" {
		return endpoints
	}
	for i, e := range endpoints {
		if !e.root {
			e.url += "/v2"
		}
		endpoints[i] = endpoint{url: e.url + "/" + prefix, host: e.host, root: true}
	}
	return endpoints
}

func (p *parser) endpoints(n *yaml.Node, at string) []endpoint {
	var endpoints []endpoint
	n = target(n)
	if empty(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.problem(n.Line, at, "it is not a list", `write one "- https://HOST" line per endpoint`)
		return nil
	}
	for i, item := range n.Content {
		key := fmt.Sprintf("%s[%d]", at, i)
		before := len(p.problems)
		e, err := parseEndpoint(p.text(item, key))
		switch {
		case len(p.problems) > before:
		case err != nil:
			p.problem(item.Line, key, err.Error(), "write it like https://mirror.example.com:5000")
		case slices.ContainsFunc(endpoints, func(other endpoint) bool { return other.url == e.url }):
			p.problem(item.Line, key, "the endpoint is there twice", "leave one of them out")
		default:
			endpoints = append(endpoints, e)
		}
	}
	return endpoints
}

func parseEndpoint(text string) (endpoint, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // the URL may have a password in it
		}
		return endpoint{}, fmt.Errorf("it is not a URL: %w", err)
	case u.User != nil:
		return endpoint{}, errors.New("an endpoint has no user and password in it: they belong to configs, below auth")
	case u.Scheme != "https" && u.Scheme != "http":
		return endpoint{}, errors.New("it does not begin with https:// or http://")
	case u.Hostname() == "":
		return endpoint{}, errors.New("it names no host")
	case u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, errors.New("it has more than a host and a path")
	}
	e := endpoint{host: u.Host, url: u.Scheme + "://" + u.Host}
	if p := path.Clean("/" + u.EscapedPath()); p != "/" && p != "/v2" {
		e.url, e.root = e.url+p, true
	}
	return e, nil
}

var (
	everything = regexp.MustCompile(`^\(?\^?\(?\.[*+]\)?\$?\)?$`)
	prefixed   = regexp.MustCompile(`^([a-z0-9][a-z0-9._/-]*)/\$(?:1|\{1\})$`)
)

// rewrite is what to put before the names of all images. containerd can do that
// and no other rewriting: an endpoint may have a path.
func (p *parser) rewrite(n *yaml.Node, at string) (prefix string) {
	p.each(n, at, func(pattern, value *yaml.Node, key string) {
		replacement := p.text(value, key)
		if _, err := regexp.Compile(pattern.Value); err != nil {
			p.problem(pattern.Line, key, "it is not a regular expression: "+err.Error(), "")
			return
		}
		m := prefixed.FindStringSubmatch(replacement)
		if m == nil || !everything.MatchString(pattern.Value) || !strings.Contains(pattern.Value, "(") || prefix != "" {
			p.problem(pattern.Line, key, "containerd cannot rewrite names like this; k3s carries a changed containerd for it",
				`only a prefix for all images works: "(.*)": "prefix/$1"; else give the images in the mirror the names that pods use`)
			return
		}
		prefix = path.Clean(m[1])
	})
	return prefix
}

func (p *parser) access(n *yaml.Node, at string) access {
	var a access
	p.fields(n, at, map[string]func(*yaml.Node, string){
		"auth": func(n *yaml.Node, at string) { a.authorization = p.auth(n, at) },
		"tls":  func(n *yaml.Node, at string) { p.tls(n, at, &a) },
	})
	return a
}

// auth makes a header of credentials. containerd sends it to the registry, and
// to the token server that the registry names.
func (p *parser) auth(n *yaml.Node, at string) string {
	var username, password, encoded string
	refuse := func(n *yaml.Node, at string) {
		if p.text(n, at) != "" {
			p.problem(n.Line, at, "identity tokens are not supported", "use username and password: most registries take an access token as the password")
		}
	}
	before := len(p.problems)
	p.fields(n, at, map[string]func(*yaml.Node, string){
		"username":       func(n *yaml.Node, at string) { username = p.text(n, at) },
		"password":       func(n *yaml.Node, at string) { password = p.text(n, at) },
		"auth":           func(n *yaml.Node, at string) { encoded = p.text(n, at) },
		"token":          refuse,
		"identity_token": refuse,
	})
	switch {
	case len(p.problems) > before:
	case (username == "") != (password == ""):
		p.problem(n.Line, at, "it has only one of username and password", "write both")
	case strings.Contains(username, ":"):
		p.problem(n.Line, at, "there is a colon in username, which HTTP does not allow", "")
	case username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
	case encoded != "":
		plain, err := base64.StdEncoding.DecodeString(encoded)
		if user, secret, ok := strings.Cut(string(plain), ":"); err != nil || !ok || user == "" || secret == "" {
			p.problem(n.Line, at+".auth", "it is not username:password in base64", "use username and password")
			return ""
		}
		return "Basic " + encoded
	}
	return ""
}

func (p *parser) tls(n *yaml.Node, at string, a *access) {
	p.fields(n, at, map[string]func(*yaml.Node, string){
		"ca_file":              func(n *yaml.Node, at string) { a.ca = p.file(n, at) },
		"cert_file":            func(n *yaml.Node, at string) { a.cert = p.file(n, at) },
		"key_file":             func(n *yaml.Node, at string) { a.key = p.file(n, at) },
		"insecure_skip_verify": func(n *yaml.Node, at string) { a.skipVerify = p.bool(n, at) },
	})
	if a.ca != "" {
		data, err := os.ReadFile(a.ca)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
			p.problem(n.Line, at+".ca_file", "there is no certificate in "+a.ca, "name a file with PEM certificates")
		}
	}
	switch {
	case a.key != "" && a.cert == "":
		p.problem(n.Line, at, "there is a key_file without a cert_file", "write both, or neither")
	case a.cert != "":
		key := a.key
		if key == "" {
			key = a.cert // containerd looks for both in one file
		}
		if _, err := tls.LoadX509KeyPair(a.cert, key); err != nil {
			p.problem(n.Line, at+".cert_file", "the certificate and its key cannot be used: "+err.Error(), "name PEM files that belong together")
		}
	}
}

// file is the name of a file that can be read; "" when it is not.
func (p *parser) file(n *yaml.Node, at string) string {
	name := p.text(n, at)
	if name == "" {
		return ""
	}
	if !filepath.IsAbs(name) {
		p.problem(n.Line, at, name+" does not begin with /", "write the whole path")
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		p.problem(n.Line, at, fmt.Sprintf("%s cannot be read: %v", name, err), "make it, or correct the path")
		return ""
	}
	f.Close()
	return name
}
