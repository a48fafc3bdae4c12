package apilb

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// mute is how long a server may say nothing at all to a client before the
// client's going is a sign against the server.
const mute = 5 * time.Second

// conn is a connection to a server that tells the Balancer how it fares.
type conn struct {
	net.Conn
	balancer *Balancer
	server   *server
	opened   time.Time
	heard    atomic.Bool // something came from the server
	once     sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(int64(n), err)
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(0, err)
	return n, err
}

// note learns from what a read or write gave.
func (c *conn) note(received int64, err error) {
	if received > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.balancer.suspect(c.server)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.balancer.drop(c)
		if !c.heard.Load() && time.Since(c.opened) > mute {
			c.balancer.suspect(c.server)
		}
	})
	return err
}

// silentSince says whether nothing has come from the server since t. The
// kernel knows, also of data that nobody has read yet.
func (c *conn) silentSince(t time.Time) bool {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	silent := true
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		silent = err != nil || time.Duration(info.Last_data_recv)*time.Millisecond > time.Since(t)
	})
	return silent || err != nil
}
