package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"github.com/skiff-k8s/skiff/pkg/component"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type group struct {
	statuses []component.Status
	events   []component.Event
}

func (g group) Snapshot() []component.Status { return g.statuses }
func (g group) Events() []component.Event    { return g.events }

var start = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func info() Info {
	return Info{
		Version: "0.1.0", Kubernetes: "v1.36.4", Role: "server", NodeName: "edge-1", Started: start,
		APIComponent: "apiserver", NodeComponent: "node",
	}
}

func ready(name string, after time.Duration) component.Status {
	return component.Status{Name: name, State: component.StateReady, Since: start.Add(after), StartedAfter: after / 2, ReadyAfter: after}
}

func starting() group {
	return group{
		statuses: []component.Status{
			ready("datastore", 120*time.Millisecond),
			{Name: "apiserver", State: component.StateStarting},
			{Name: "controller-manager", State: component.StatePending, WaitingOn: []string{"apiserver"}},
			{Name: "kubelet", State: component.StateFailed, Detail: "goroutine 1 [running]",
				Err: errors.New("kubelet failed: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")},
		},
		events: []component.Event{
			{Time: start, Name: "datastore", State: component.StateReady, Took: time.Second},
			{Time: start, Name: "kubelet", State: component.StateFailed, Err: errors.New("kubelet failed: swap")},
		},
	}
}

func running() group {
	return group{statuses: []component.Status{
		ready("datastore", 120*time.Millisecond), ready("apiserver", 1800*time.Millisecond), ready("node", 2503*time.Millisecond),
	}}
}

func TestCollect(t *testing.T) {
	t.Run("everything ready is ready, with the times of the API and the node", func(t *testing.T) {
		r := Collect(info(), running())
		if !r.Ready || r.Err() != nil {
			t.Errorf("ready is %v, error %v", r.Ready, r.Err())
		}
		if r.APIReadyAfterSeconds != 1.8 || r.NodeReadyAfterSeconds != 2.503 || r.PID != os.Getpid() {
			t.Errorf("report %+v", r)
		}
	})
	t.Run("what is not ready is told with its reason and its exit code", func(t *testing.T) {
		r := Collect(info(), starting())
		var notReady *NotReadyError
		if err := r.Err(); !errors.As(err, &notReady) || notReady.ExitCode() != ExitNotReady {
			t.Fatalf("error %v", err)
		}
		want := "skiff is not ready: apiserver is starting; controller-manager waits for apiserver; kubelet failed: running with swap on"
		if !strings.HasPrefix(notReady.Error(), want) {
			t.Errorf("error %q, want %q", notReady, want)
		}
	})
}

func TestWrite(t *testing.T) {
	t.Run("the table is at most 80 columns wide and shows what is wrong", func(t *testing.T) {
		r := Collect(info(), starting())
		r.PID, r.UptimeSeconds = 4711, 12
		var out bytes.Buffer
		if err := Write(&out, "", r); err != nil {
			t.Fatal(err)
		}
		want := `skiff 0.1.0 server, Kubernetes v1.36.4, pid 4711, up 12s
node edge-1

COMPONENT           STATE     READY AFTER
datastore           ready          0.12 s
apiserver           starting
controller-manager  pending
    waits for apiserver
kubelet             failed
    kubelet failed: running with swap on is not supported, please disable swap
    or set --fail-swap-on flag to false
`
		if out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", &out, want)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > width+1 {
				t.Errorf("line %q has %d columns", line, len(line)-1)
			}
		}
	})
	t.Run("the table shows how long the start took", func(t *testing.T) {
		var out bytes.Buffer
		if err := Write(&out, "table", Collect(info(), running())); err != nil {
			t.Fatal(err)
		}
		if want := "node edge-1, API ready after 1.80 s, node ready after 2.50 s\n"; !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant a line\n%s", &out, want)
		}
	})
	t.Run("JSON and YAML hold the same under the documented names", func(t *testing.T) {
		r := Collect(info(), starting())
		var fromJSON, fromYAML map[string]any
		var out bytes.Buffer
		if err := Write(&out, "json", r); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &fromJSON); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := Write(&out, "yaml", r); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(out.Bytes(), &fromYAML); err != nil {
			t.Fatal(err)
		}
		for _, m := range []map[string]any{fromJSON, fromYAML} {
			components, _ := m["components"].([]any)
			if len(components) != 4 || m["ready"] != false || m["nodeName"] != "edge-1" {
				t.Fatalf("report %v", m)
			}
			first, _ := components[0].(map[string]any)
			if first["readyAfterSeconds"] != 0.12 || first["state"] != "ready" {
				t.Errorf("component %v", first)
			}
			if _, ok := m["apiReadyAfterSeconds"]; ok {
				t.Error("an API that is not ready has a time")
			}
		}
	})
	t.Run("another format is refused with the ones there are", func(t *testing.T) {
		err := Write(&bytes.Buffer{}, "xml", Report{})
		if err == nil || !strings.Contains(err.Error(), "table, json, yaml") {
			t.Errorf("error %v", err)
		}
	})
}

func TestUptime(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{12300 * time.Millisecond, "12s"},
		{59*time.Minute + 59*time.Second, "59m59s"},
		{3*time.Hour + 2*time.Minute, "3h2m"},
		{76 * time.Hour, "3d4h"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if got := uptime(tt.d); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// shortDir is a temporary directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skiff")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocket(t *testing.T) {
	t.Run("a running component answers, to its owner only, and is gone afterwards", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "status.sock")
		ctx, cancel := context.WithCancel(t.Context())
		isReady, done := make(chan struct{}), make(chan error, 1)
		c := New(socket, func() Report { return Collect(info(), running()) }, nil)
		go func() { done <- c.Run(ctx, func() { close(isReady) }) }()
		<-isReady

		stat, err := os.Stat(socket)
		if err != nil || stat.Mode().Perm() != 0o600 {
			t.Errorf("the socket has mode %v (%v)", stat.Mode(), err)
		}
		r, err := Get(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		if r.NodeName != "edge-1" || len(r.Components) != 3 || r.Components[1].ReadyAfterSeconds != 1.8 {
			t.Errorf("report %+v", r)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopping: %v", err)
		}
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is still there (%v)", err)
		}
	})
	t.Run("when nothing runs, the error says so and how to start it", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "status.sock")
		_, err := Get(t.Context(), socket)
		var notRunning *NotRunningError
		if !errors.As(err, &notRunning) {
			t.Fatalf("error %v", err)
		}
		want := "skiff is not running (there is no socket " + socket + "): start it with \"systemctl start skiff\" or \"skiff server\""
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
	t.Run("a component whose socket is taken fails", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "status.sock")
		if err := os.WriteFile(socket, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := New(socket, nil, nil).Run(t.Context(), func() { t.Error("it is ready") })
		if err == nil || !strings.Contains(err.Error(), socket) {
			t.Errorf("error %v", err)
		}
	})
}
