package registries

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a component on a directory of its own.
type running struct {
	cfg  Config
	hook *test.Hook
}

func (r running) save(t *testing.T, text string) {
	t.Helper()
	next := r.cfg.File + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, r.cfg.File); err != nil {
		t.Fatal(err)
	}
}

// await waits until the rendering of a registry has a text in it; "" for none.
func (r running) await(t *testing.T, registry, text string) {
	t.Helper()
	eventually(t, registry+" has "+text, func() bool {
		data, err := os.ReadFile(filepath.Join(r.cfg.HostsDir, registry, hostsFile))
		return text == "" && os.IsNotExist(err) || text != "" && strings.Contains(string(data), text)
	})
}

func (r running) said() string {
	var b strings.Builder
	for _, e := range r.hook.AllEntries() {
		b.WriteString(e.Level.String() + " " + e.Message + "\n")
	}
	return b.String()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("not within 20 s: ", what)
		}
	}
}

func run(t *testing.T) running {
	t.Helper()
	dir := t.TempDir()
	r := running{cfg: Config{File: filepath.Join(dir, "etc", "registries.yaml"), HostsDir: filepath.Join(dir, "certs.d")}}
	log, hook := test.NewNullLogger()
	r.hook = hook
	c, err := New(r.cfg, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return r
}

func TestChangesOfTheFileAreFollowed(t *testing.T) {
	r := run(t)
	r.save(t, "mirrors: {a.test: {endpoint: [https://one.test]}}\n")
	r.await(t, "a.test", "https://one.test")
	r.save(t, "mirrors: {a.test: {endpoint: [https://two.test]}}\nconfigs: {two.test: {auth: {username: joe, password: hunter2}}}\n")
	r.await(t, "a.test", "https://two.test")

	r.save(t, "mirrors: {b.test: {endpoints: [https://three.test]}}\nmirors: {}\n")
	eventually(t, "the problem is told", func() bool { return strings.Contains(r.said(), "warning") })
	for _, want := range []string{"Keeping the registries there were", r.cfg.File + ":1: ", "did you mean endpoint?", " | " + r.cfg.File + ":2: "} {
		if !strings.Contains(r.said(), want) {
			t.Errorf("nothing says %q in\n%s", want, r.said())
		}
	}
	r.await(t, "a.test", "https://two.test")

	if err := os.Remove(r.cfg.File); err != nil {
		t.Fatal(err)
	}
	r.await(t, "a.test", "")
	if said := r.said(); strings.Contains(said, "hunter2") || strings.Count(said, "warning") != 1 {
		t.Errorf("it said\n%s", said)
	}
}

func TestPasswordsThatOthersMayReadAreToldOnce(t *testing.T) {
	r := run(t)
	const text = "configs: {two.test: {auth: {username: joe, password: hunter2}}}\n"
	for i, more := range []string{"", "mirrors: {a.test: {endpoint: [https://one.test]}}\n"} {
		if err := os.WriteFile(r.cfg.File, []byte(text+more), 0o644); err != nil {
			t.Fatal(err)
		}
		r.await(t, []string{"two.test", "a.test"}[i], header)
	}
	eventually(t, "it is told", func() bool { return strings.Contains(r.said(), "chmod 600 "+r.cfg.File) })
	if strings.Count(r.said(), "chmod") != 1 {
		t.Errorf("it said\n%s", r.said())
	}
}

func TestABrokenFileIsRefusedAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(path, []byte("mirors: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{File: path}, nil); err == nil || !strings.Contains(err.Error(), path+":1: mirors") {
		t.Errorf("it says %v", err)
	}
}
