// Package deadpeer makes the kernel notice that the other end of a TCP
// connection is gone without a word: a pulled cable, a lost machine, a
// partition. Any package below pkg may import it; it imports nothing of ours.
package deadpeer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A connection fails when the peer has acknowledged nothing for limit. Idle
// ones are probed so that this holds for them, too. The kernel does all of it;
// the process sleeps.
const (
	limit    = 15 * time.Second
	idle     = 10 * time.Second
	interval = 5 * time.Second
	probes   = 3
)

// Notice makes reads and writes of conn, which is TCP or TLS over TCP, fail
// some 15 to 20 s after the peer is gone.
func Notice(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("a connection of type %T has no keepalive", conn)
	}
	if err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: probes}); err != nil {
		return fmt.Errorf("setting keepalive: %w", err)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
