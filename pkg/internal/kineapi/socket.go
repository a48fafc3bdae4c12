package kineapi

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/skiff-k8s/skiff/pkg/internal/unixsocket"
)

const (
	// MaxRequest is etcd's own bound for a request, 1.5 MiB, and its overhead.
	MaxRequest = 2 << 20
	// bufferSize of each connection: what goes over the socket is small.
	bufferSize = 8 << 10
)

// NewServer makes a server that services can be registered with.
func NewServer() *grpc.Server {
	return grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.ReadBufferSize(bufferSize),
		grpc.WriteBufferSize(bufferSize),
		grpc.SharedWriteBuffer(true),
		grpc.WaitForHandlers(true),
	)
}

// Listen makes a socket that nobody else can connect to at any moment, and its
// directory.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the datastore's socket: %w", err)
	}
	l, err := unixsocket.Listen(ctx, path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the datastore's socket: %w", err)
	}
	return l, nil
}
