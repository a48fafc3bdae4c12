package notify

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFromEnv(t *testing.T) {
	tests := []struct {
		name    string
		env     map[string]string
		want    Config
		wantErr string
	}{
		{"no service manager", nil, Config{}, ""},
		{"a socket", map[string]string{"NOTIFY_SOCKET": "/run/notify"}, Config{Socket: "/run/notify"}, ""},
		{"an abstract socket and a watchdog", map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000"}, Config{Socket: "@n", Watchdog: 3 * time.Second}, ""},
		{"a watchdog for this process", map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "7"}, Config{Socket: "@n", Watchdog: time.Millisecond}, ""},
		{"a watchdog for another process", map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"}, Config{Socket: "@n"}, ""},
		{"a watchdog without a socket", map[string]string{"WATCHDOG_USEC": "1000"}, Config{}, ""},
		{"a virtual machine's socket", map[string]string{"NOTIFY_SOCKET": "vsock:2:1"}, Config{}, "NOTIFY_SOCKET"},
		{"a watchdog that is no number", map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3s"}, Config{}, "WATCHDOG_USEC"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromEnv(func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }, 7)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if tt.wantErr == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

// manager is the socket of a service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listen(t *testing.T, name string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return manager{t, conn}
}

// next is the next message, its lines joined by spaces.
func (m manager) next() string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(buf[:n]), "\n", " | ")
}

func (m manager) expect(want string) {
	m.t.Helper()
	if got := m.next(); got != want {
		m.t.Errorf("the service manager heard %q, want %q", got, want)
	}
}

func quiet(out *bytes.Buffer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(out)
	return log.WithField("component", "notify")
}

func TestRun(t *testing.T) {
	sockets := []struct {
		name   string
		socket func(t *testing.T) string
	}{
		{"over a socket in the file system", func(t *testing.T) string {
			dir, err := os.MkdirTemp("", "skiff")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			return filepath.Join(dir, "notify")
		}},
		{"over an abstract socket", func(t *testing.T) string { return "@skiff-notify-test-" + filepath.Base(t.TempDir()) }},
	}
	for _, tt := range sockets {
		t.Run("a whole life is told "+tt.name, func(t *testing.T) {
			socket := tt.socket(t)
			m := listen(t, socket)
			allReady := make(chan struct{})
			var out bytes.Buffer
			c := New(Config{Socket: socket}, Source{Ready: allReady, Status: func() string { return "waiting\nfor API" }}, quiet(&out))

			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx, func() {}) }()
			m.expect("STATUS=waiting for API | EXTEND_TIMEOUT_USEC=30000000")
			close(allReady)
			m.expect("STATUS=waiting for API | READY=1")
			cancel()
			m.expect("STOPPING=1 | STATUS=stopping")
			if err := <-done; err != nil || out.Len() != 0 {
				t.Errorf("error %v, log %q", err, &out)
			}
		})
	}
	t.Run("a stop while starting never says ready", func(t *testing.T) {
		socket := "@skiff-notify-test-" + filepath.Base(t.TempDir())
		m := listen(t, socket)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		c := New(Config{Socket: socket}, Source{Ready: make(chan struct{})}, quiet(&bytes.Buffer{}))
		go func() { done <- c.Run(ctx, func() {}) }()
		m.expect("EXTEND_TIMEOUT_USEC=30000000")
		cancel()
		m.expect("STOPPING=1 | STATUS=stopping")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("the watchdog is fed twice per period, and only while healthy", func(t *testing.T) {
		socket := "@skiff-notify-test-" + filepath.Base(t.TempDir())
		m := listen(t, socket)
		allReady := make(chan struct{})
		close(allReady)
		var calls atomic.Int32
		healthy := func(context.Context) error {
			if calls.Add(1) == 2 {
				return errors.New("API does not answer")
			}
			return nil
		}
		var out bytes.Buffer
		const period = 200 * time.Millisecond
		c := New(Config{Socket: socket, Watchdog: period}, Source{Ready: allReady, Healthy: healthy}, quiet(&out))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, func() {}) }()
		m.expect("EXTEND_TIMEOUT_USEC=30000000")
		m.expect("READY=1")
		m.expect("WATCHDOG=1")
		start := time.Now()
		m.expect("WATCHDOG=1") // the second call was not healthy
		if took := time.Since(start); took < period*3/4 {
			t.Errorf("it was fed again after %s although it was not healthy", took)
		}
		start = time.Now()
		m.expect("WATCHDOG=1")
		if took := time.Since(start); took > period*3/4 {
			t.Errorf("it was fed only after %s of %s", took, period)
		}
		cancel()
		m.expect("STOPPING=1 | STATUS=stopping")
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), "API does not answer") {
			t.Errorf("the log %q does not say why the watchdog was not fed", &out)
		}
	})
	t.Run("without a service manager it sleeps until the stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			start := time.Now()
			isReady := false
			err := New(Config{}, Source{}, quiet(&bytes.Buffer{})).Run(ctx, func() { isReady = true })
			if err != nil || !isReady || time.Since(start) != time.Hour {
				t.Errorf("error %v, ready %v, after %s", err, isReady, time.Since(start))
			}
		})
	})
	t.Run("a service manager that went away is one warning, not a failure", func(t *testing.T) {
		allReady := make(chan struct{})
		close(allReady)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		c := New(Config{Socket: filepath.Join(t.TempDir(), "gone")}, Source{Ready: allReady}, quiet(&out))
		if err := c.Run(ctx, func() {}); err != nil {
			t.Errorf("error %v", err)
		}
		if n := strings.Count(out.String(), "level=warning"); n != 1 {
			t.Errorf("%d warnings: %s", n, &out)
		}
	})
}
