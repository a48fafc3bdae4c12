package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

const (
	// probeInterval is how long lies between two attempts to connect,
	// probeTimeout how long one may take: until a proxy knows a Service, its
	// packets are dropped.
	probeInterval = 2 * time.Millisecond
	probeTimeout  = 10 * time.Millisecond
)

// answer listens on a host's address, at a port that the kernel chooses, and
// sends each who connects one byte.
func answer(h *framework.Host, with byte) (net.Listener, error) {
	var l net.Listener
	err := within(h, func() (err error) {
		l, err = net.Listen("tcp4", net.JoinHostPort(h.Address().String(), "0"))
		return err
	})
	if err != nil {
		return nil, err
	}
	go send(l, with)
	return l, nil
}

// send sends one byte to each who connects.
func send(l net.Listener, what byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		_, _ = c.Write([]byte{what})
		c.Close()
	}
}

func portOf(l net.Listener) int32 {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return int32(a.Port)
	}
	return 0
}

// reach connects from the host to an address until the answer is want.
func reach(ctx context.Context, s system, address string, want byte) error {
	return within(s.Host(), func() error {
		ticker := time.NewTicker(probeInterval)
		defer ticker.Stop()
		for {
			err := probe(ctx, address, want)
			if err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return waitError{"a connection to " + address + " goes the right way", err}
			case <-s.Failed():
				return waitError{"a connection to " + address + " goes the right way", errEnded}
			case <-ticker.C:
			}
		}
	})
}

// probe connects once. It must open its socket in the goroutine that calls it.
func probe(ctx context.Context, address string, want byte) error {
	d := net.Dialer{Timeout: probeTimeout}
	c, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(c, got); err != nil {
		return errors.Join(errors.New("connected, but no answer"), err)
	}
	if got[0] != want {
		return fmt.Errorf("the answer is %d, not %d", got[0], want)
	}
	return nil
}
