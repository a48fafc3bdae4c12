package external

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// etcd is a cluster of etcd, to which the API server has connections of its own.
type etcd struct {
	cfg  Config
	urls []string
	tls  *tls.Config // nil: http
}

func newEtcd(cfg Config) (*etcd, error) {
	e := &etcd{cfg: cfg}
	secure := false
	for i, text := range strings.Split(cfg.Endpoint, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil, u.Hostname() == "":
			return nil, fmt.Errorf("member %d of the list is not the URL of an etcd server: write it like https://etcd.example.com:2379", i+1)
		case u.Scheme != "http" && u.Scheme != "https":
			return nil, fmt.Errorf("member %d of the list begins with %s://, and members of an etcd cluster with https:// or http://", i+1, u.Scheme)
		case u.User != nil:
			return nil, errors.New("etcd is not asked with a user and a password: use a client certificate, --datastore-certfile and --datastore-keyfile")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return nil, fmt.Errorf("member %d of the list has more than a host and a port", i+1)
		}
		secure = secure || u.Scheme == "https"
		e.urls = append(e.urls, u.Scheme+"://"+hostPort(u.Host, "2379"))
	}
	if secure {
		info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		config, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("certificates for etcd: %w; correct --datastore-cafile, --datastore-certfile and --datastore-keyfile", err)
		}
		e.tls = config
	}
	return e, nil
}

func (e *etcd) where() string       { return strings.Join(e.urls, ",") }
func (e *etcd) endpoints() []string { return e.urls }

func (e *etcd) tlsConfig() *tls.Config { return e.tls }

// try is content with one member that answers and knows of a leader.
func (e *etcd) try(ctx context.Context) error {
	var errs []error
	for _, u := range e.urls {
		err := e.ask(ctx, u)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *etcd) ask(ctx context.Context, u string) error {
	if err := e.reach(ctx, u); err != nil {
		return err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{u}, TLS: e.tls, Logger: zap.NewNop(), Context: ctx,
		DialOptions: []grpc.DialOption{grpc.WithDisableRetry()},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Get(ctx, "/registry/health")
	if errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty) {
		return &refusal{err, "give the user that --datastore-certfile names the right to read and write all keys"}
	}
	return err
}

// hello begins an HTTP/2 connection, with no settings.
const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// reach is there for its errors: gRPC only says that it has no connection. A
// server that misses a certificate says so after the handshake.
func (e *etcd) reach(ctx context.Context, u string) error {
	scheme, address, _ := strings.Cut(u, "://")
	dial := new(net.Dialer).DialContext
	if scheme == "https" {
		d := tls.Dialer{Config: e.tls.Clone()}
		d.Config.NextProtos = []string{"h2"}
		dial = d.DialContext
	}
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c, hello); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

func (e *etcd) serve(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}
