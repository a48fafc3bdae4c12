package datastore

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/tests/databases"
)

// What the tests share: each server is started by the first test that wants it.
var (
	base     = filepath.Join("/var/tmp", fmt.Sprintf("skiff-databases-%d", os.Getpid()))
	stops    = new(stopping)
	postgres = shared("postgres", databases.Server.Postgres, syscall.SIGINT)
	mariaDB  = shared("mariadb", databases.Server.MariaDB, syscall.SIGTERM)
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // kine has no other logger
	flag.Parse()
	// The tests wait more than they work.
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := errors.Join(stops.all(), os.RemoveAll(base)); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: cleaning up:", err)
		code = 1
	}
	os.Exit(code)
}

type stopping struct {
	mu    sync.Mutex
	funcs []func() error
}

func (s *stopping) add(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.funcs = append(s.funcs, f)
}

func (s *stopping) all() error {
	var errs []error
	for _, f := range s.funcs {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// shared makes a function that starts a server once. It does not wait for it:
// the datastores do.
func shared(name string, script func(databases.Server) string, end syscall.Signal) func(*testing.T) server {
	start := sync.OnceValues(func() (server, error) {
		if s, ok := knownServer(name); ok {
			return s, nil
		}
		port, err := freePort()
		if err != nil {
			return server{}, err
		}
		if err := os.MkdirAll(base, 0o711); err != nil {
			return server{}, err
		}
		s := databases.Server{Dir: filepath.Join(base, name), Address: "127.0.0.1", Port: port, Password: "pass-of-the-tests"}
		stop, err := databases.Start(script(s), end, filepath.Join(base, name+".log"))
		if err != nil {
			return server{}, err
		}
		stops.add(stop)
		return server{s}, nil
	})
	return func(t *testing.T) server {
		t.Helper()
		if why := databases.Missing(); why != "" {
			if os.Getenv("SKIFF_REQUIRE") != "" {
				t.Fatal(why)
			}
			t.Skip(why)
		}
		s, err := start()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
