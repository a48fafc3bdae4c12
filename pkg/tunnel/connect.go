package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/net/http2"

	"github.com/skiff-k8s/skiff/pkg/internal/deadpeer"
	"github.com/skiff-k8s/skiff/pkg/protocol"
)

// serverName is in the certificates of servers and of nobody else. The address
// would not do: an address translator's is in no certificate.
const serverName = "kubernetes.default.svc"

// connect reaches a server and turns the connection around.
func (a *Agent) connect(ctx context.Context, server string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config, err := a.credentials()
	if err != nil {
		return nil, err
	}
	raw, err := dialTCP(ctx, server)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	turned, err := turn(ctx, conn)
	if err != nil {
		_ = conn.Close() // the other error is told
		return nil, err
	}
	return turned, nil
}

// credentials are read for each connection, because certificates are renewed.
func (a *Agent) credentials() (*tls.Config, error) {
	ca, err := os.ReadFile(a.cfg.ServerCA)
	if err != nil {
		return nil, fmt.Errorf("reading the servers' CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("no certificate is in %s", a.cfg.ServerCA)
	}
	cert, err := tls.LoadX509KeyPair(a.cfg.Cert, a.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the node's certificate: %w", err)
	}
	return &tls.Config{
		RootCAs:      roots,
		Certificates: []tls.Certificate{cert},
		ServerName:   serverName,
		NextProtos:   []string{"http/1.1"},
		MinVersion:   tls.VersionTLS12,
	}, nil
}

// turn asks for the upgrade.
func turn(ctx context.Context, conn *tls.Conn) (net.Conn, error) {
	if err := errors.Join(deadpeer.Notice(conn), conn.HandshakeContext(ctx)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol.PathConnect, serverName, upgrade); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, fmt.Errorf("the server refuses a tunnel: %w", readRefusal(resp))
	}
	return &buffered{conn, r}, nil
}

// buffered is a connection of which something has been read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// serve answers the server's requests until the connection ends.
func (a *Agent) serve(ctx context.Context, conn net.Conn) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	(&http2.Server{
		MaxConcurrentStreams:         maxStreams,
		MaxReadFrameSize:             frameSize,
		MaxUploadBufferPerStream:     streamWindow,
		MaxUploadBufferPerConnection: 16 * streamWindow,
		ReadIdleTimeout:              pingAfter,
		PingTimeout:                  pingTimeout,
	}).ServeConn(conn, &http2.ServeConnOpts{
		Context: ctx,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			streams.Add(1)
			defer streams.Done()
			a.answer(w, r)
		}),
	})
	return errors.New("the connection has ended")
}

// answer connects the server with what it asks for.
func (a *Agent) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), connectTimeout)
	defer cancel()
	target, err := a.cfg.Targets.resolve(ctx, r.Host)
	if err != nil {
		a.log.WithError(err).Warn("A server asked for what this node does not offer")
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	conn, err := dialTCP(ctx, target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
	out := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if out.Flush() != nil {
		return
	}
	go send(conn, r.Body)
	if _, err := io.Copy(flushing{w, out}, conn); err != nil {
		panic(http.ErrAbortHandler) // the server shall not take this for the end
	}
}

// send passes what the server says, and its end.
func send(conn net.Conn, body io.Reader) {
	_, err := io.Copy(conn, body)
	if half, ok := conn.(*net.TCPConn); ok && err == nil {
		_ = half.CloseWrite() // the other direction shows what is wrong
		return
	}
	_ = conn.Close() // as above
}

// flushing lets nothing wait in a buffer.
type flushing struct {
	w   io.Writer
	out *http.ResponseController
}

// Write implements io.Writer.
func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.out.Flush()
	}
	return n, err
}
