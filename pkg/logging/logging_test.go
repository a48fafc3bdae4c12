package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
)

func newLogs(t *testing.T, cfg config.Logging) (*Logs, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	logs, err := New(cfg, &out)
	if err != nil {
		t.Fatal(err)
	}
	return logs, &out
}

// check compares the lines of a log, without their times, with want.
func check(t *testing.T, out *bytes.Buffer, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), `" level=`)
		if !ok || !strings.HasPrefix(line, `time="`) {
			t.Errorf("line %q has no time and level", line)
		}
		got = append(got, rest)
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("logged:\n%s\nwant:\n%s", g, w)
	}
}

func TestLevels(t *testing.T) {
	tests := []struct {
		name string
		cfg  config.Logging
		want []string
	}{
		{"information and worse are shown by default", config.Logging{},
			[]string{"info msg=b component=dns", "warning msg=c component=dns"}},
		{"debug shows more", config.Logging{Debug: true},
			[]string{"debug msg=a component=dns", "info msg=b component=dns", "warning msg=c component=dns"}},
		{"a component's own level wins over the default", config.Logging{ComponentLevels: map[string]string{"dns": "warn"}},
			[]string{"warning msg=c component=dns"}},
		{"a component's own level wins over debug", config.Logging{Debug: true, ComponentLevels: map[string]string{"dns": "info"}},
			[]string{"info msg=b component=dns", "warning msg=c component=dns"}},
		{"another component's level changes nothing", config.Logging{ComponentLevels: map[string]string{"kubelet": "debug"}},
			[]string{"info msg=b component=dns", "warning msg=c component=dns"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, tt.cfg)
			entry := logs.For("dns")
			entry.Debug("a")
			entry.Info("b")
			entry.Warn("c")
			check(t, out, tt.want...)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		cfg  config.Logging
		want string
	}{
		{"an unknown format is named with the known ones", config.Logging{Format: "xml"}, `log format "xml" is not known: use text or json`},
		{"an unknown level is named with its component", config.Logging{ComponentLevels: map[string]string{"dns": "loud"}}, `log level "loud" of dns`},
		{"a file that cannot be made is named", config.Logging{File: "/proc/none/skiff.log"}, "/proc/none/skiff.log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg, os.Stderr)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	logs, out := newLogs(t, config.Logging{Format: "json"})
	logs.For("dns").WithError(errors.New("no upstream")).Warn("slow")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if line["component"] != "dns" || line["msg"] != "slow" || line["error"] != "no upstream" || line["level"] != "warning" {
		t.Errorf("logged %v", line)
	}
}

func TestFile(t *testing.T) {
	read := func(t *testing.T, path string) string {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	t.Run("it is readable by its owner only, is appended to, and standard error stays silent", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "skiff.log")
		for _, text := range []string{"first", "second"} {
			logs, out := newLogs(t, config.Logging{File: path})
			logs.For("dns").Info(text)
			if err := logs.Close(); err != nil {
				t.Fatal(err)
			}
			if out.Len() != 0 {
				t.Errorf("standard error got %q", out)
			}
		}
		if text := read(t, path); !strings.Contains(text, "first") || !strings.Contains(text, "second") {
			t.Errorf("the file holds %q", text)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v (%v)", info.Mode(), err)
		}
	})
	t.Run("both get it when asked", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "skiff.log")
		logs, out := newLogs(t, config.Logging{File: path, AlsoToStderr: true})
		logs.For("dns").Info("hello")
		if text := read(t, path); text != out.String() || text == "" {
			t.Errorf("the file holds %q, standard error got %q", text, out)
		}
	})
	t.Run("log rotation by renaming starts a new file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "skiff.log")
		logs, _ := newLogs(t, config.Logging{File: path})
		logs.For("dns").Info("before")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		logs.out.checked = time.Now().Add(-reopenAfter)
		logs.For("dns").Info("after")
		if text := read(t, path); !strings.Contains(text, "after") || strings.Contains(text, "before") {
			t.Errorf("the new file holds %q", text)
		}
		if text := read(t, path+".1"); strings.Contains(text, "after") {
			t.Errorf("the old file holds %q", text)
		}
	})
	t.Run("log rotation by truncating leaves no hole", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "skiff.log")
		logs, _ := newLogs(t, config.Logging{File: path})
		logs.For("dns").Info("before")
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		logs.For("dns").Info("after")
		if text := read(t, path); !strings.HasPrefix(text, "time=") {
			t.Errorf("the file holds %q", text)
		}
	})
}

// useKlog makes klog write to logs until the test ends.
func useKlog(t *testing.T, logs *Logs) {
	t.Helper()
	state := klog.CaptureState()
	t.Cleanup(state.Restore)
	klog.SetLogger(logr.New(logs.KlogSink()))
}

// exitless runs f, which ends the process, in a process that does not end.
func exitless(f func()) (code int) {
	standard, exit, osExit := logrus.StandardLogger(), logrus.StandardLogger().ExitFunc, klog.OsExit
	defer func() { standard.ExitFunc, klog.OsExit = exit, osExit }()
	standard.ExitFunc = func(c int) {
		code = c
		runtime.Goexit() // its callers do not expect it to return
	}
	klog.OsExit = standard.ExitFunc
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	return code
}

type panics struct{}

func (panics) MarshalLog() any { panic("bad value") }

func TestKlog(t *testing.T) {
	tests := []struct {
		name string
		cfg  config.Logging
		want []string
	}{
		{"information is left out, warnings and errors are shown as such", config.Logging{}, []string{
			`warning msg="careful 1"`,
			`warning msg="careful 2"`,
			`error msg="broken 1"`,
			`error msg="broken 2" error=cause pod=ns/web retries=3`,
		}},
		{"information is shown when debugging", config.Logging{Debug: true}, []string{
			"debug msg=plain",
			`debug msg=structured odd="(missing)" pod=ns/web`,
			"debug msg=contextual bad=\"(panic: bad value)\" logger=volume.mounter",
			`warning msg="careful 1"`,
			`warning msg="careful 2"`,
			`error msg="broken 1"`,
			`error msg="broken 2" error=cause pod=ns/web retries=3`,
		}},
		{"information is shown as such when verbosity was asked for", config.Logging{Verbosity: 1}, []string{
			"info msg=plain",
			`info msg=structured odd="(missing)" pod=ns/web`,
			"info msg=contextual bad=\"(panic: bad value)\" logger=volume.mounter",
			`warning msg="careful 1"`,
			`warning msg="careful 2"`,
			`error msg="broken 1"`,
			`error msg="broken 2" error=cause pod=ns/web retries=3`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, tt.cfg)
			useKlog(t, logs)
			pod := klog.KRef("ns", "web")
			klog.Infof("plain")
			klog.InfoS("structured", "pod", pod, "odd")
			klog.V(9).Info("not asked for")
			klog.LoggerWithName(klog.LoggerWithName(klog.Background(), "volume"), "mounter").Info("contextual", "bad", panics{})
			klog.Background().V(9).Info("not asked for")
			klog.Warningf("careful %d", 1)
			klog.Warning("careful 2")
			klog.Errorf("broken %d", 1)
			klog.ErrorS(errors.New("cause"), "broken 2", "pod", pod, "retries", 3)
			check(t, out, tt.want...)
		})
	}
	t.Run("what ends the process is shown as an error", func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{})
		useKlog(t, logs)
		if code := exitless(func() { klog.Exitf("lost %s", "lease") }); code != 1 {
			t.Errorf("exit code %d", code)
		}
		check(t, out, `error msg="lost lease"`)
	})
	t.Run("a line that is not shown costs no allocation", func(t *testing.T) {
		logs, _ := newLogs(t, config.Logging{})
		sink := logs.KlogSink()
		if n := testing.AllocsPerRun(100, func() { sink.Info(0, "hello") }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestClassify(t *testing.T) {
	tests := []struct {
		name     string
		function string
		want     call
	}{
		{"kubelet", "k8s.io/kubernetes/pkg/kubelet/cm.(*containerManagerImpl).Start", call{component: "kubelet", shared: "kubernetes"}},
		{"a controller", "k8s.io/kubernetes/pkg/controller/job.(*Controller).Run", call{component: "controller-manager", shared: "kubernetes"}},
		{"the API server's own part wins over the controllers'", "k8s.io/kubernetes/pkg/controlplane/controller/leaderelection.(*Controller).Run", call{component: "apiserver", shared: "kubernetes"}},
		{"a shared library names nothing by itself", "k8s.io/client-go/tools/cache.(*Reflector).Run", call{shared: "client-go"}},
		{"a klog warning", "k8s.io/klog/v2.WarningDepth", call{severity: logrus.WarnLevel}},
		{"an end of the process", "k8s.io/klog/v2.FatalDepth", call{severity: logrus.FatalLevel}},
		{"a wait loop", "k8s.io/apimachinery/pkg/util/wait.Until", call{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := classify(tt.function); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestZap(t *testing.T) {
	logs, out := newLogs(t, config.Logging{})
	logger := logs.Zap("etcd").With(zap.String("member", "a"))
	logger.Info("elected")
	logger.Named("raft").Warn("slow disk", zap.Duration("took", time.Second))
	logger.Error("broken", zap.Error(errors.New("cause")))
	check(t, out,
		`warning msg="slow disk" component=etcd logger=raft member=a took=1s`,
		"error msg=broken component=etcd error=cause member=a")
}

// restoreStandardLoggers undoes Install when the test ends.
func restoreStandardLoggers(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		logrus.SetOutput(os.Stderr)
		logrus.SetFormatter(&logrus.TextFormatter{})
		logrus.SetLevel(logrus.InfoLevel)
		log.SetOutput(os.Stderr)
		log.SetFlags(log.LstdFlags)
	})
}

// TestInstall changes process-wide loggers, so nothing here runs in parallel.
func TestInstall(t *testing.T) {
	restoreStandardLoggers(t)
	t.Run("logrus' standard logger is led here and keeps to the component's level", func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{ComponentLevels: map[string]string{"etcd": "debug"}})
		logs.Install()
		logrus.Debug("hidden")
		logrus.Info("shown")
		logrus.WithField("component", "containerd").Info("plugin loaded")
		logrus.WithField("component", "containerd").Warn("plugin broken")
		logrus.WithField("component", "etcd").Debug("asked for")
		check(t, out, "info msg=shown", `warning msg="plugin broken" component=containerd`, `debug msg="asked for" component=etcd`)
	})
	t.Run("Go's standard logger gets levels by what it says", func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{})
		logs.Install()
		log.Print("[INFO] plugin/reload: reloading")
		log.Print("[ERROR] plugin/errors: 2 timeout")
		log.Print("http: TLS handshake error from 10.0.0.1:80: EOF")
		log.Print("http: Accept error: too many open files")
		log.Print("plain")
		logs.StdLogger("joinapi").Print("http: panic serving 10.0.0.1")
		check(t, out,
			`info msg="plugin/reload: reloading"`,
			`error msg="plugin/errors: 2 timeout"`,
			`warning msg="http: Accept error: too many open files"`,
			"info msg=plain",
			`error msg="http: panic serving 10.0.0.1" component=joinapi`)
	})
	t.Run("a line says by itself which part of the program it comes from", func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{})
		logs.Install()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusTeapot)
		}))
		defer server.Close()
		resp, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if !strings.Contains(out.String(), "superfluous response.WriteHeader") || !strings.Contains(out.String(), "level=warning") ||
			!strings.Contains(out.String(), "component=http") {
			t.Errorf("logged %q", out)
		}
	})
	t.Run("gRPC's errors are warnings and its warnings are for debugging", func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{})
		logs.Install()
		logger := grpclog.Component("test")
		logger.Info("connecting")
		logger.Warning("connecting again")
		logger.Error("gone")
		check(t, out, "warning msg=\"[test] gone\" component=grpc")
	})
}

func TestEvents(t *testing.T) {
	logs, out := newLogs(t, config.Logging{})
	observe := logs.Events(logs.For("skiff"))
	observe(component.Event{Name: "dns", State: component.StateStarting})
	observe(component.Event{Name: "dns", State: component.StateReady, Took: time.Second})
	observe(component.Event{Note: "waiting for apiserver (starting for 10s)"})
	observe(component.Event{Name: "dns", State: component.StateFailed, Err: errors.New("dns failed: panic: x"), Detail: "goroutine 1\n" + strings.Repeat("frame\n", 500)})
	text := out.String()
	if n := strings.Count(text, "frame"); n != detailLines-1 {
		t.Errorf("%d lines of the stack are logged, want %d", n, detailLines-1)
	}
	head := strings.SplitAfterN(text, "\n", 4)
	check(t, bytes.NewBufferString(strings.Join(head[:3], "")),
		`warning msg="waiting for apiserver (starting for 10s)" component=skiff`,
		`error msg="dns failed: panic: x" component=skiff`,
		`error msg="  goroutine 1" component=skiff`)
}
