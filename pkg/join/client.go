package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/skiff-k8s/skiff/pkg/pki"
	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// temporaryError is a failure that may pass by itself.
type temporaryError struct {
	err   error
	after time.Duration // not to be asked again before; 0: no matter
}

func (e *temporaryError) Error() string { return e.err.Error() }
func (e *temporaryError) Unwrap() error { return e.err }

// RefusedError is a server's refusal.
type RefusedError struct {
	Server string
	Status int
	protocol.Refusal
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server %s refused: %s", e.Server, e.Refusal.Error)
}

// Unwrap lets errors.Is find ErrRefused.
func (e *RefusedError) Unwrap() error { return ErrRefused }

// client talks to servers. It is safe for concurrent use once it is made.
type client struct {
	http    *http.Client
	ca      []byte      // PEM; nil: whoever answers
	token   token.Token // sent when it is not zero
	version string
	// certified says whether it has the node's certificate.
	certified bool
}

// serverName is in the certificates of servers and of nobody else. The address
// would not do: that of an address translator is in no certificate.
const serverName = "kubernetes.default.svc"

// newClient trusts ca alone. cert, if not nil, is the node's.
func newClient(cfg Config, ca []byte, cert *tls.Certificate) (*client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the cluster's CA has no certificate in it")
	}
	conf := &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS12}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return &client{http: httpClient(cfg, conf), ca: ca, version: cfg.version(), certified: cert != nil}, nil
}

// nodeClient talks with the node's certificate. Without a usable one it can
// talk, and will be told that a credential is missing.
func nodeClient(cfg Config) (*client, error) {
	files := pki.NodeFilesOf(cfg.Layout)
	ca, err := os.ReadFile(files.ServerCA)
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	cert, err := tls.LoadX509KeyPair(files.NodeAgent.Cert, files.NodeAgent.Key)
	if err != nil {
		return newClient(cfg, ca, nil)
	}
	return newClient(cfg, ca, &cert)
}

// newUnverified is for fetching a CA that is then held against a token. It
// must be told no secret.
func newUnverified(cfg Config) *client {
	return &client{http: httpClient(cfg, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}), version: cfg.version()}
}

func httpClient(cfg Config, conf *tls.Config) *http.Client {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: conf, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: time.Minute,
			// A peer that is gone without a word is noticed while an answer
			// is waited for, which may take minutes.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		},
		// A credential goes to the server that was named and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// get fetches what a path of a server has.
func (c *client) get(ctx context.Context, server, path string, limit int64) ([]byte, error) {
	return c.do(ctx, http.MethodGet, server, path, nil, limit)
}

func (c *client) getJSON(ctx context.Context, server, path string, into any) error {
	data, err := c.get(ctx, server, path, maxAnswer)
	if err != nil {
		return err
	}
	return understand(server, data, into)
}

// post sends a request and reads the answer into another value.
func (c *client) post(ctx context.Context, server, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a request: %w", err)
	}
	answer, err := c.do(ctx, http.MethodPost, server, path, data, maxAnswer)
	if err != nil {
		return err
	}
	return understand(server, answer, into)
}

func understand(server string, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the answer of %s is not what a skiff server says; is it one?: %w", server, err)
	}
	return nil
}

func (c *client) do(ctx context.Context, method, server, path string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+server+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the server %s: %w", server, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(protocol.HeaderVersion, c.version)
	req.Header.Set("User-Agent", "skiff/"+c.version)
	c.authorize(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(server, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, unreachable(server, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes: is it a skiff server?", server, limit)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(server, resp, data)
	}
	return data, nil
}

func (c *client) authorize(r *http.Request) {
	switch t := c.token; {
	case t.Secret() == "" || c.ca == nil:
	case t.Bootstrap():
		r.Header.Set("Authorization", "Bearer "+t.Bearer())
	case t.User() != "":
		r.SetBasicAuth(t.User(), t.Secret())
	default:
		r.SetBasicAuth(token.UserNode, t.Secret())
	}
}

// refused tells refusals from what may pass.
func refused(server string, resp *http.Response, body []byte) error {
	var no protocol.Refusal
	if err := json.Unmarshal(body, &no); err != nil || no.Error == "" {
		no = protocol.Refusal{Error: "it answered " + resp.Status + "; is it a skiff server?"}
	}
	err := &RefusedError{Server: server, Status: resp.StatusCode, Refusal: no}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // missing: 0
		return &temporaryError{err: fmt.Errorf("the server %s asks to come back: %s", server, no.Error), after: min(time.Duration(seconds)*time.Second, time.Minute)}
	}
	return err
}

// unreachable tells a server that is not the cluster's from one that does not
// answer.
func unreachable(server string, err error) error {
	if why := distrust(err); why != "" {
		return fmt.Errorf("the server %s is not to be trusted, nothing was sent to it: %s", server, why)
	}
	return &temporaryError{err: fmt.Errorf("the server %s does not answer: %w", server, innermost(err))}
}

func distrust(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is not signed by the cluster's CA"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is signed by the cluster's CA, but is no server's"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return "" // a clock that is behind, or a server that renews it
		}
		return e.Error()
	}
	return ""
}

// innermost is an error without the request's method and URL.
func innermost(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
