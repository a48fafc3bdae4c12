// Package unixsocket listens on Unix sockets that are never open to others,
// not even for the moment between making them and setting their mode. Any
// package below pkg may import it; it imports nothing of ours.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPath is what fits into sockaddr_un with its final zero byte.
const maxPath = 107

// Listen makes a stream socket at path with exactly the given permissions, and
// removes one that a killed process left there. It refuses to take over a path
// where somebody still listens or where something else than a socket is. The
// listener removes the file when it is closed.
func Listen(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the socket path %s has %d bytes, the kernel allows %d: choose a shorter directory", path, len(path), maxPath)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		// bind gives the file the permissions of the socket, less the umask,
		// so they have to be right before, not after.
		var err error
		controlled := conn.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(controlled, err)
	}}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, mode.Perm()); err != nil { // what the umask took away
		return nil, errors.Join(fmt.Errorf("setting the mode of %s: %w", path, err), listener.Close())
	}
	return listener, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for an old socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way: it is no socket, so it was not made by skiff; move it elsewhere", path)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another process listens on %s: stop it first", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("asking whether somebody listens on %s: %w", path, err)
	}
	return os.Remove(path)
}
