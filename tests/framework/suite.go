// Package framework runs the built binary on hosts made of namespaces and
// gives tests the words to speak about them: Suite, Host, Cluster, Server, Agent,
// Namespace.
// It waits for conditions and never sleeps, keeps the evidence of failures,
// and checks that the machine is afterwards as it was before. Tests import it;
// it imports nshost, nameserver and the test images, and nothing of pkg.
package framework

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework/nshost"
	"github.com/skiff-k8s/skiff/tests/images"
)

// Suite is what the tests of one package share. Make it in TestMain.
type Suite struct {
	run       string // unique on the machine, 4 digits
	base      string // directory of this run's hosts
	binary    string
	artifacts string
	reason    string // why nothing can be tested here
	before    machine
	images    func() ([]string, error)

	mu     sync.Mutex
	made   int // hosts and networks
	failed bool
	shared []shared
}

// shared is what lives as long as the suite: a host, or a cluster of them.
type shared interface {
	dump(test string, say func(...any))
	close() error
}

func (s *Suite) share(what shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = append(s.shared, what)
}

// number is for names that are unique within the run.
func (s *Suite) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	return s.made
}

// Main is the body of a TestMain: it makes the suite, hands it to use, runs the
// tests and gives the exit status. It never returns in a host's init.
func Main(m *testing.M, use func(*Suite)) int {
	nshost.RunInit()
	s, err := newSuite()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(s)
	code := m.Run()
	if err := s.close(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: cleaning up:", err)
		return 1
	}
	return code
}

func newSuite() (*Suite, error) {
	s := &Suite{artifacts: os.Getenv("SKIFF_ARTIFACTS")}
	if s.reason = s.missing(); s.reason != "" {
		if os.Getenv("SKIFF_REQUIRE") != "" {
			return nil, errors.New(s.reason)
		}
		return s, nil
	}
	unlock, err := nshost.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(nshost.Base()); err != nil {
		return nil, err
	}
	id := make([]byte, 2)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	s.run = hex.EncodeToString(id)
	s.base = filepath.Join(nshost.Base(), s.run)
	if s.artifacts == "" {
		s.artifacts = filepath.Join(filepath.Dir(nshost.Base()), "skiff-test-results", s.run)
	}
	s.images = sync.OnceValues(s.buildImages)
	if err := claim(s.base); err != nil {
		return nil, err
	}
	s.before, err = lookAt(s.run)
	return s, err
}

// Open makes a suite for a program that is no test: it shares the machine with
// tests in the same way. The caller closes it, and calls nshost.RunInit first.
func Open() (*Suite, error) {
	s, err := newSuite()
	if err == nil && s.reason != "" {
		err = errors.New(s.reason)
	}
	return s, err
}

// Close ends what is shared, removes what is left of the run and compares the
// machine with what it was before.
func (s *Suite) Close() error { return s.close() }

// missing says what the machine lacks for these tests, or nothing.
func (s *Suite) missing() string {
	if os.Geteuid() != 0 {
		return "these tests make namespaces: run them as root (sudo make test)"
	}
	path := os.Getenv("SKIFF_BIN")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "skiff")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err.Error()
	}
	if info, err := os.Stat(absolute); err != nil || info.IsDir() {
		return fmt.Sprintf("there is no %s: run make build first, or name a binary with SKIFF_BIN", absolute)
	}
	s.binary = absolute
	return ""
}

// Require skips the test where the suite cannot run at all.
func (s *Suite) Require(t testing.TB) {
	t.Helper()
	if s.reason != "" {
		t.Skip(s.reason)
	}
}

// Images gives the paths of the archives of the test images, by base name.
func (s *Suite) Images(t testing.TB) map[string]string {
	t.Helper()
	paths, err := s.images()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]string{}
	for _, p := range paths {
		byName[filepath.Base(p)] = p
	}
	return byName
}

func (s *Suite) buildImages() ([]string, error) {
	dir := filepath.Join(s.base, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return images.WriteAll(ctx, dir)
}

// Binary is the path of the program that is tested.
func (s *Suite) Binary() string { return s.binary }

// close removes what is left of the run and compares the machine.
func (s *Suite) close() error {
	if s.reason != "" {
		return nil
	}
	var errs []error
	for _, what := range s.shared {
		if s.failed || keepAlways() {
			what.dump("shared", func(a ...any) { fmt.Fprintln(os.Stderr, a...) })
		}
		errs = append(errs, what.close())
	}
	errs = append(errs, os.RemoveAll(s.base))
	_ = os.Remove(nshost.Base()) // stays while another run lives in it
	ctx, cancel := context.WithTimeout(context.Background(), leakGrace)
	defer cancel()
	errs = append(errs, s.before.awaitSame(ctx, s.run))
	return errors.Join(errs...)
}
