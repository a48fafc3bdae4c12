package logging

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// foreignWarning logs as an embedded project does.
func foreignWarning(logs *Logs, format string, args ...any) {
	logs.foreign("kubelet", logrus.WarnLevel, logrus.Fields{}, fmt.Sprintf(format, args...))
}

// shown are the levels and messages of a log, without times and components.
func shown(out *bytes.Buffer) string {
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, " level=")
		level, msg, _ := strings.Cut(rest, " msg=")
		msg, _, _ = strings.Cut(strings.TrimSpace(msg), " component=")
		got = append(got, level[:1]+" "+strings.Trim(msg, `"`))
	}
	return strings.Join(got, "\n")
}

const heldBack = ": here are %d lines that were held back, with their own times; most are usual in a start or stop"

func notice(why string, lines int) string { return "w " + why + fmt.Sprintf(heldBack, lines) }

func TestHold(t *testing.T) {
	tests := []struct {
		name string
		cfg  config.Logging
		do   func(logs *Logs)
		want []string
	}{
		{"a healthy start shows only our own lines", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "node not found")
			logs.For("host").Warn("old kernel")
			logs.Started()
			foreignWarning(logs, "disk full")
		}, []string{"w old kernel", "w disk full"}},
		{"a failed start shows what was held, in order", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "one")
			logs.For("host").Info("own")
			foreignWarning(logs, "two")
			logs.Failed()
			foreignWarning(logs, "three")
		}, []string{"i own", notice("Something went wrong", 2), "w one", "w two", "w three"}},
		{"a start that takes long shows what was held, and goes on in the open", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "one")
			time.Sleep(startLimit - time.Millisecond)
			logs.For("test").Info("nearly")
			time.Sleep(2 * time.Millisecond)
			foreignWarning(logs, "two")
			logs.Started()
		}, []string{"i nearly", notice("The start is not complete after 15s", 1), "w one", "w two"}},
		{"a start that takes long without a warning says nothing", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			time.Sleep(startLimit * 2)
		}, nil},
		{"a limit does not outlive its start", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			time.Sleep(startLimit - time.Second)
			logs.Started()
			logs.Stopping()
			foreignWarning(logs, "usual")
			time.Sleep(2 * time.Second)
			logs.For("test").Info("stopped")
		}, []string{"i stopped"}},
		{"a healthy stop is silent", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			logs.Started()
			foreignWarning(logs, "disk full")
			logs.Stopping()
			foreignWarning(logs, "connection refused")
		}, []string{"w disk full"}},
		{"a stop that fails shows what was held", config.Logging{}, func(logs *Logs) {
			logs.Stopping()
			foreignWarning(logs, "connection refused")
			logs.Failed()
		}, []string{notice("Something went wrong", 1), "w connection refused"}},
		{"a stop that takes long shows what was held", config.Logging{}, func(logs *Logs) {
			logs.Stopping()
			foreignWarning(logs, "connection refused")
			time.Sleep(stopLimit + time.Second)
		}, []string{notice("The stop is not complete after 5s", 1), "w connection refused"}},
		{"a stop during the start keeps what both have held", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "node not found")
			logs.Stopping()
			logs.Started() // too late to mean anything
			foreignWarning(logs, "connection refused")
			logs.Failed()
		}, []string{notice("Something went wrong", 2), "w node not found", "w connection refused"}},
		{"the stop after a failure hides nothing", config.Logging{}, func(logs *Logs) {
			logs.Failed()
			logs.Stopping()
			foreignWarning(logs, "connection refused")
		}, []string{"w connection refused"}},
		{"a component that fails is a failure", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "bad certificate")
			logs.Events(logs.For("skiff"))(component.Event{Name: "apiserver", State: component.StateFailed, Err: errors.New("apiserver failed")})
		}, []string{notice("Something went wrong", 1), "w bad certificate", "e apiserver failed"}},
		{"more lines than a healthy start has are not held", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			long := strings.Repeat("x", holdBytes/2)
			foreignWarning(logs, "%s", long)
			logs.For("test").Info("one is held")
			foreignWarning(logs, "%s", long)
			foreignWarning(logs, "last")
		}, []string{"i one is held", notice("There are too many warnings and errors", 2),
			"w " + strings.Repeat("x", holdBytes/2), "w " + strings.Repeat("x", holdBytes/2), "w last"}},
		{"debugging shows everything as it comes", config.Logging{ComponentLevels: map[string]string{"kubelet": "debug"}}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "node not found")
			logs.For("test").Info("later")
			logs.Started()
		}, []string{"w node not found", "i later"}},
		{"verbosity shows everything as it comes", config.Logging{Verbosity: 2}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "node not found")
		}, []string{"w node not found"}},
		{"what a level hides is not held", config.Logging{ComponentLevels: map[string]string{"kubelet": "error"}}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "node not found")
			logs.Failed()
		}, nil},
		{"a panic that Kubernetes is about to raise is shown with what came before", config.Logging{}, func(logs *Logs) {
			logs.Starting()
			foreignWarning(logs, "before")
			logs.foreign("kubelet", logrus.ErrorLevel, logrus.Fields{}, "Observed a panic")
		}, []string{notice("Something went wrong", 1), "w before", "e Observed a panic"}},
		{"closing drops what a healthy stop has held", config.Logging{}, func(logs *Logs) {
			logs.Stopping()
			foreignWarning(logs, "connection refused")
			if err := logs.Close(); err != nil {
				panic(err)
			}
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logs, out := newLogs(t, tt.cfg)
				tt.do(logs)
				synctest.Wait()
				if got, want := shown(out), strings.Join(tt.want, "\n"); got != want {
					t.Errorf("logged:\n%.2000s\nwant:\n%.2000s", got, want)
				}
				_ = logs.Close()
			})
		})
	}
}

func TestHeldLinesKeepTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, out := newLogs(t, config.Logging{})
		logs.Starting()
		want := "" // after the notice
		for i := range 3 {
			time.Sleep(time.Second)
			foreignWarning(logs, "line%d", i)
			want += fmt.Sprintf("time=%q level=warning msg=line%d component=kubelet\n", time.Now().Format(timeFormat), i)
		}
		time.Sleep(time.Second)
		logs.Failed()
		_, got, _ := strings.Cut(out.String(), "\n")
		if got != want {
			t.Errorf("logged:\n%swant:\n%s", got, want)
		}
	})
}

func TestEverySourceIsHeld(t *testing.T) {
	restoreStandardLoggers(t)
	logs, out := newLogs(t, config.Logging{})
	logs.Install()
	useKlog(t, logs)
	logs.Starting()
	klog.Error("klog")
	logrus.WithField("component", "containerd").Error("logrus")
	log.Print("[ERROR] standard")
	logs.Zap("etcd").Error("zap")
	grpcLog{logs}.Error("grpc")
	logs.Foreign("containerd").Error("own logger")
	if out.Len() > 0 {
		t.Errorf("these were not held:\n%s", out)
	}
	logs.Failed()
	want := notice("Something went wrong", 6) + "\ne klog\ne logrus\ne standard\ne zap\nw grpc\ne own logger"
	if got := shown(out); got != want {
		t.Errorf("logged:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhatEndsTheProcessIsNeverHeld(t *testing.T) {
	restoreStandardLoggers(t)
	tests := []struct {
		name string
		log  func(logs *Logs)
	}{
		{"klog.Exit", func(*Logs) { exitless(func() { klog.Exit("gone") }) }},
		{"logrus.Fatal", func(*Logs) { exitless(func() { logrus.WithField("component", "containerd").Fatal("gone") }) }},
		{"logrus.Panic", func(*Logs) {
			defer func() { _ = recover() }()
			logrus.Panic("gone")
		}},
		{"gRPC's Fatal", func(logs *Logs) {
			defer func() { _ = recover() }()
			grpcLog{logs}.Fatal("gone")
		}},
		{"CoreDNS' Fatal", func(*Logs) { log.Print("[FATAL] gone") }},
		{"a panic in a handler", func(*Logs) { log.Print("http: panic serving gone") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, config.Logging{})
			logs.Install()
			useKlog(t, logs)
			t.Cleanup(func() { _ = logs.Close() })
			logs.Starting()
			klog.Warning("why")
			tt.log(logs)
			got := strings.Split(shown(out), "\n")
			if len(got) != 3 || got[1] != "w why" || !strings.HasPrefix(got[2], "e ") || !strings.HasSuffix(got[2], "gone") {
				t.Errorf("logged:\n%s", out)
			}
		})
	}
}

func TestWhatIsInterruptedByAStopIsHeld(t *testing.T) {
	logs, out := newLogs(t, config.Logging{})
	useKlog(t, logs)
	logs.Stopping()
	exitless(func() { klog.Fatalf("PostStartHook failed") })
	if out.Len() > 0 {
		t.Errorf("logged:\n%s", out)
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHoldIsSafeForConcurrentUse(t *testing.T) {
	logs, out := newLogs(t, config.Logging{})
	logs.Starting()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				foreignWarning(logs, "line")
			}
		})
		if i == 4 {
			wg.Go(logs.Failed)
		}
	}
	wg.Wait()
	if n := strings.Count(out.String(), "msg=line"); n != 8*50 {
		t.Errorf("%d lines of %d came out", n, 8*50)
	}
}

// TestExitsAreAllKnown reads the source of the Kubernetes that is built in.
func TestExitsAreAllKnown(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatalf("finding the source of Kubernetes: %v", err)
	}
	root := strings.TrimSpace(string(out))
	found := 0
	for _, dir := range []string{"pkg/kubelet", "pkg/scheduler"} {
		for _, function := range exiting(t, root, dir) {
			found++
			if !classify(function).exits {
				t.Errorf("%s ends the process after it has logged why: add it to exits", function)
			}
		}
	}
	if found == 0 {
		t.Error("no function was found")
	}
}

func TestHarmless(t *testing.T) {
	tests := []struct {
		name  string
		msg   string
		cause any
		want  bool
	}{
		{"a controller that tries again", "Unhandled Error", `sync "a/b" failed with read version: 1 is not as new as written version: 2 for group resource replicasets.apps`, true},
		{"a controller that fails", "Unhandled Error", `sync "a/b" failed with forbidden`, false},
		{"an error value counts as its text", "failed sending message on channel", errors.New("write: broken pipe"), true},
		{"a line without an error", "Failed to encode watch event", nil, false},
		{"another line", "disk full", "not found", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, config.Logging{})
			fields := logrus.Fields{}
			if tt.cause != nil {
				fields[logrus.ErrorKey] = tt.cause
			}
			logs.foreign("kubelet", logrus.ErrorLevel, fields, tt.msg)
			if hidden := out.Len() == 0; hidden != tt.want {
				t.Errorf("hidden: %v, want %v", hidden, tt.want)
			}
		})
	}
}

// exiting names the functions below dir that call os.Exit or klog.FlushAndExit.
func exiting(t *testing.T, root, dir string) []string {
	t.Helper()
	var functions []string
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_windows.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || file.Name.Name == "main" {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && callsExit(f) {
				functions = append(functions, "k8s.io/kubernetes/"+pkg+"."+receiver(f)+f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return functions
}

func callsExit(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				found = found || x.Name+"."+s.Sel.Name == "os.Exit" || x.Name+"."+s.Sel.Name == "klog.FlushAndExit"
			}
		}
		return true
	})
	return found
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
		return fmt.Sprintf("(*%s).", star.X)
	}
	return fmt.Sprintf("%s.", f.Recv.List[0].Type)
}
