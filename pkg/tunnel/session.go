package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// linger is how long what was written before a Close has to reach the agent.
const linger = 5 * time.Second

// session is one agent's connection, seen from the server.
type session struct {
	node   string
	conn   *closeTold
	client *http2.ClientConn
}

// newSession begins to speak HTTP/2 over conn. The session ends when
// conn.closed is.
func newSession(node string, conn net.Conn) (*session, error) {
	s := &session{node: node, conn: &closeTold{Conn: conn, closed: make(chan struct{})}}
	t, err := http2.ConfigureTransports(&http.Transport{HTTP2: &http.HTTP2Config{
		MaxReadFrameSize:          frameSize,
		MaxReceiveBufferPerStream: streamWindow,
	}})
	if err != nil {
		return nil, fmt.Errorf("configuring HTTP/2: %w", err)
	}
	t.DisableCompression = true
	if s.client, err = t.NewClientConn(s.conn); err != nil {
		return nil, fmt.Errorf("starting HTTP/2: %w", err)
	}
	return s, nil
}

// dial connects to target by way of the agent. address is what the connection
// calls its other end.
func (s *session) dial(ctx context.Context, target, address string) (net.Conn, error) {
	ctx, done := context.WithTimeout(ctx, connectTimeout)
	defer done()
	// The request lasts as long as the connection, ctx only until there is one.
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	near, far := net.Pipe()
	resp, err := s.open(ctx, streaming, cancel, target, sending{far})
	if err != nil {
		cancel()
		_, _ = near.Close(), far.Close() // a pipe's Close never fails
		return nil, fmt.Errorf("connecting to %s through the tunnel of node %s: %w", address, s.node, err)
	}
	c := &stream{Conn: near, remote: streamAddr(address), end: cancel}
	go func() {
		defer cancel()
		defer resp.Body.Close()
		c.receive(far, resp.Body)
	}()
	return c, nil
}

// open sends the request and waits for the answer as long as ctx lasts.
func (s *session) open(ctx, streaming context.Context, cancel func(), target string, body io.ReadCloser) (*http.Response, error) {
	stop := context.AfterFunc(ctx, cancel)
	resp, err := s.client.RoundTrip((&http.Request{
		Method:        http.MethodConnect,
		URL:           &url.URL{Scheme: "https", Host: target},
		Host:          target,
		Header:        http.Header{},
		Body:          body,
		ContentLength: -1,
	}).WithContext(streaming))
	if !stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, readRefusal(resp)
	}
	return resp, nil
}

// readRefusal takes what agents write, which is text, and what servers do.
func readRefusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // the status says enough
	var no protocol.Refusal
	if err := json.Unmarshal(text, &no); err == nil && no.Error != "" {
		return &refusal{resp.StatusCode, no.Error}
	}
	return &refusal{resp.StatusCode, strings.TrimSpace(string(text))}
}

// stream is a connection to something on a node.
type stream struct {
	net.Conn // one end of a pipe
	remote   streamAddr
	end      func()
	once     sync.Once
	broken   atomic.Pointer[error]
}

// receive passes on what the agent says, and whether that was all of it.
func (s *stream) receive(far io.WriteCloser, body io.Reader) {
	defer far.Close()
	_, err := io.Copy(far, body)
	if errors.Is(err, io.ErrClosedPipe) {
		_, _ = io.Copy(io.Discard, body) // while the last words go out
		return
	}
	if err != nil {
		err = fmt.Errorf("the tunnel broke: %w", err)
		s.broken.Store(&err)
	}
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if broken := s.broken.Load(); errors.Is(err, io.EOF) && broken != nil {
		err = *broken
	}
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	err := s.Conn.Close()
	s.once.Do(func() { time.AfterFunc(linger, s.end) })
	return err
}

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return streamAddr("tunnel") }

// sending is the direction to the agent of a pipe's far end. HTTP closes it
// when the agent has said all it had to say, which has yet to be passed on.
type sending struct{ far net.Conn }

// Read implements io.Reader.
func (s sending) Read(p []byte) (int, error) { return s.far.Read(p) }

// Close implements io.Closer. A Read that waits returns.
func (s sending) Close() error { return s.far.SetReadDeadline(time.Unix(1, 0)) }

// streamAddr is a host and port, seen through a tunnel.
type streamAddr string

// Network implements net.Addr.
func (streamAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a streamAddr) String() string { return string(a) }

// closeTold is a connection whose end can be waited for.
type closeTold struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

// Close implements net.Conn.
func (c *closeTold) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
