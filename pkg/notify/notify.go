// Package notify tells the service manager what the process is doing, in the
// protocol of sd_notify(3), and feeds its watchdog. Wiring packages import it;
// it imports component and no other component. It does not read the
// environment: main does, so that children do not inherit the socket.
package notify

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Config is what the service manager asked for. The zero value is none.
type Config struct {
	// Socket is NOTIFY_SOCKET: a path, or an abstract name after an @.
	Socket string
	// Watchdog is how long the manager waits for a sign of life before it
	// ends the process; 0: for ever.
	Watchdog time.Duration
}

// FromEnv reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID through lookup,
// which os.LookupEnv is one of. pid is the process that the watchdog must be
// meant for. The caller removes the variables from the environment.
func FromEnv(lookup func(string) (string, bool), pid int) (Config, error) {
	var c Config
	c.Socket, _ = lookup("NOTIFY_SOCKET")
	if c.Socket != "" && !strings.HasPrefix(c.Socket, "/") && !strings.HasPrefix(c.Socket, "@") {
		return Config{}, fmt.Errorf("NOTIFY_SOCKET is %q: only Unix sockets are known, /path or @name", c.Socket)
	}
	usec, ok := lookup("WATCHDOG_USEC")
	if !ok || c.Socket == "" {
		return c, nil
	}
	if meant, ok := lookup("WATCHDOG_PID"); ok && meant != strconv.Itoa(pid) {
		return c, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 {
		return Config{}, fmt.Errorf("WATCHDOG_USEC is %q: it has to be a number of microseconds above 0", usec)
	}
	c.Watchdog = time.Duration(n) * time.Microsecond
	return c, nil
}

// Variables are the names that FromEnv reads.
func Variables() []string { return []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} }

// send sends assignments in one datagram. Without a socket it does nothing.
func (c Config) send(assignments ...string) (err error) {
	if c.Socket == "" {
		return nil
	}
	// Go turns a leading @ into the zero byte of an abstract name.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: c.Socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("reaching the service manager: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}

func status(text string) string {
	return "STATUS=" + strings.Join(strings.Fields(text), " ")
}

func extend(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10)
}
