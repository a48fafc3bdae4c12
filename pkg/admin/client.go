package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 32 << 20

// busyPause is the time between questions to a server that is busy.
const busyPause = 500 * time.Millisecond

// ErrBusy is in the chain of an error for what a server cannot do at the moment,
// such as while it starts.
var ErrBusy = errors.New("not at the moment")

// ErrNotFound is in the chain of an error for what does not exist.
var ErrNotFound = errors.New("not found")

// Client talks to the API of a cluster. It is safe for concurrent use.
type Client struct {
	access access
	http   *http.Client
}

// Open makes a client from the current context of a kubeconfig. It connects
// with the first request.
func Open(kubeconfig string) (*Client, error) {
	a, err := readKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return &Client{access: a, http: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: a.tls, ForceAttemptHTTP2: true,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close gives connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// raw sends a request and gives the body of a successful answer.
func (c *Client) raw(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	target := c.access.server.JoinPath(path)
	if at := strings.IndexByte(path, '?'); at >= 0 {
		target = c.access.server.JoinPath(path[:at])
		target.RawQuery = path[at+1:]
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the API: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.access.token != "" {
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(c.access.token))
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the API at %s does not answer; is the server running?: %w", c.access.server, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.access.server, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, c.refused(resp, data)
	}
	return data, nil
}

// refused puts an answer that is no success into words: the API's own, or the
// join API's.
func (c *Client) refused(resp *http.Response, data []byte) error {
	var status struct {
		Message string `json:"message"`
	}
	var refusal protocol.Refusal
	text := resp.Status
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		text = status.Message
	} else if json.Unmarshal(data, &refusal) == nil && refusal.Error != "" {
		text = refusal.Error
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", text, ErrNotFound)
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%s: %w", text, ErrBusy)
	case http.StatusUnauthorized:
		return fmt.Errorf("%s does not know the credential of the kubeconfig; is it of another cluster, or expired?", c.access.server)
	}
	return errors.New(text)
}

// patiently is do that asks again while the server is busy, until ctx ends.
func (c *Client) patiently(ctx context.Context, method, path string, body, into any) error {
	for {
		err := c.do(ctx, method, path, body, into)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
	}
}

// do is raw with JSON both ways; body and into may be nil.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var data []byte
	var err error
	if body != nil {
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encoding a request: %w", err)
		}
	}
	answer, err := c.raw(ctx, method, path, data)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("the answer of %s is not what is expected: %w", c.access.server, err)
	}
	return nil
}
