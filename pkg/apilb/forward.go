package apilb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// pause keeps a process that has run out of descriptors from spinning.
const pause = 100 * time.Millisecond

// serve passes connections through until ctx ends.
func (b *Balancer) serve(ctx context.Context, l *net.TCPListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		client, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			b.log.WithError(err).Warn("Accepting a client of the API failed; trying again")
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		case err != nil:
			return fmt.Errorf("accepting clients of the API on %s: %w", b.cfg.Listen, err)
		default:
			wg.Go(func() { b.forward(ctx, client) })
		}
	}
}

// forward passes one client's connection through. A client that can't be
// served is reset, so that it does not take an empty answer for one.
func (b *Balancer) forward(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	upstream, err := b.connect(ctx)
	if err != nil {
		b.log.WithError(err).Debug("A client of the API can't be served")
		_ = client.SetLinger(0) // it is closed either way
		return
	}
	defer upstream.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })() // ends both copies; Run closes upstream

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		n, err := relay(client, upstream.Conn)
		upstream.note(n, err)
	})
	_, err = relay(upstream.Conn, client)
	upstream.note(0, err)
}

// relay copies one direction, in the kernel where it can, and passes its end
// on. When it fails, the other direction has nothing to live for.
func relay(to, from net.Conn) (int64, error) {
	n, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok {
		_, _ = to.Close(), from.Close() // what went wrong is known
		return n, err
	}
	if err := half.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, net.ErrClosed) {
		return n, err
	}
	return n, nil
}
