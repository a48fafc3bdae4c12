package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// suite is set up by TestMain.
var suite *framework.Suite

func TestMain(m *testing.M) {
	os.Exit(framework.Main(m, func(s *framework.Suite) { suite = s }))
}

// realSkiff is a host for the built binary, and the image of the test pods.
func realSkiff(t *testing.T) *skiff {
	t.Helper()
	s, err := newSkiff(t.Context(), suite, []string{suite.Images(t)["busybox.tar"]})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func needsBinary(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts the built binary: sudo make test-integration")
	}
	suite.Require(t)
}

// heldUp is Skiff with a pause within its start.
type heldUp struct {
	*skiff
	pause  time.Duration
	paused chan error
}

// Start stops the process as soon as it has begun with its components.
func (h *heldUp) Start(ctx context.Context) error {
	if err := h.skiff.Start(ctx); err != nil {
		return err
	}
	begun := h.host.Path("/run/skiff/status.sock")
	go func() {
		h.paused <- until(ctx, h, "the start has begun", func() error {
			if _, err := os.Stat(begun); err != nil {
				return err
			}
			return h.server.Signal(syscall.SIGSTOP)
		})
		<-time.After(h.pause)
		h.paused <- h.server.Signal(syscall.SIGCONT)
	}()
	return nil
}

// TestADelayWithinTheStartShows starts the same binary twice beside each other,
// so that what else the machine does meets both, and holds one up. The delay is
// far longer than the difference that a busy machine makes.
func TestADelayWithinTheStartShows(t *testing.T) {
	needsBinary(t)
	const delay, tolerance = 25 * time.Second, 10 * time.Second
	cold := func(s system, got chan<- map[string]float64) {
		times := map[string]float64{}
		err := coldStart(t.Context(), s, options{}, func(v value) { times[v.ID] = v.Number })
		if err != nil {
			t.Error(stated(s, err))
		}
		got <- times
	}
	straight, late := make(chan map[string]float64, 1), make(chan map[string]float64, 1)
	first, second := realSkiff(t), &heldUp{realSkiff(t), delay, make(chan error, 2)}
	go cold(first, straight)
	go cold(second, late)
	without, with := <-straight, <-late
	if t.Failed() {
		t.FailNow()
	}
	for range 2 {
		if err := <-second.paused; err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"cold/api", "cold/node", "cold/deployment", "ready/apiserver"} {
		grown := with[id] - without[id]
		t.Logf("%s: %.1f s, held up %.1f s", id, without[id], with[id])
		if without[id] <= 0 || grown < (delay-tolerance).Seconds() || grown > (delay+tolerance).Seconds() {
			t.Errorf("%s has grown by %.1f s with a delay of %v", id, grown, delay)
		}
	}
	for _, s := range []system{first, second} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestProfilesCanBeRead(t *testing.T) {
	needsBinary(t)
	dir := t.TempDir()
	o := options{profile: dir, window: 2 * time.Second}
	if err := profileSkiff(t.Context(), suite, o, []string{suite.Images(t)["busybox.tar"]}); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"idle", "loaded"} {
		for _, kind := range []string{"cpu", "heap", "allocs", "goroutine"} {
			name := state + "-" + kind + ".pb.gz"
			p := readProfile(t, filepath.Join(dir, name))
			// An idle server may well do nothing for two seconds.
			if len(p.Sample) == 0 && name != "idle-cpu.pb.gz" {
				t.Errorf("%s is empty", name)
			}
			if name == "loaded-cpu.pb.gz" && !attributed(p) {
				t.Errorf("%s names no component", name)
			}
		}
		trace, err := os.ReadFile(filepath.Join(dir, state+"-trace.out"))
		if err != nil || !bytes.HasPrefix(trace, []byte("go 1.")) {
			t.Errorf("the trace of the %s server begins with %.10q, %v", state, trace, err)
		}
	}
	for file, want := range map[string]string{"start-components.json": `"readyAfterSeconds"`, "start-init.txt": "init github.com/", "start.log": "msg="} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s has no %s: %v", file, want, err)
		}
	}
}

func readProfile(t *testing.T, path string) *profile.Profile {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return p
}

// attributed says whether samples carry the label of a component.
func attributed(p *profile.Profile) bool {
	for _, s := range p.Sample {
		if len(s.Label["component"]) > 0 {
			return true
		}
	}
	return false
}
