package containerd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"

	"github.com/skiff-k8s/skiff/pkg/containerd"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

const (
	daemonVariable = "SKIFF_TEST_CONTAINERD"
	pauseImage     = "skiff.test/pause:1"
	busyboxImage   = "skiff.test/busybox:1"
)

// TestMain runs containerd instead of tests when the test asks for it: only a
// process of its own can be killed.
func TestMain(m *testing.M) {
	if cfg := os.Getenv(daemonVariable); cfg != "" {
		if err := runDaemon(cfg); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runDaemon(encoded string) error {
	var cfg containerd.Config
	if err := json.Unmarshal([]byte(encoded), &cfg); err != nil {
		return err
	}
	before := processState()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := logrus.New()
	logger.SetOutput(os.Stdout)
	c := containerd.New(cfg, logger.WithField("component", "containerd"))
	began := time.Now()
	err := c.Run(ctx, func() {
		if after := processState(); after != before {
			fmt.Println("changed:", before, "->", after)
		}
		fmt.Println("ready", time.Since(began).Milliseconds())
	})
	return err
}

// processState is what a component must leave alone.
func processState() string {
	mask := syscall.Umask(0o22)
	syscall.Umask(mask)
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	dir, _ := os.Getwd()
	return fmt.Sprintf("umask=%o oom=%s dir=%s path=%s tmp=%s klog2=%v", mask,
		strings.TrimSpace(string(score)), dir, os.Getenv("PATH"), os.Getenv("TMPDIR"), klog.V(2).Enabled())
}

// daemon is a containerd in a process of its own.
type daemon struct {
	cmd   *exec.Cmd
	lines chan string
	// took is the time from Run to ready.
	took time.Duration
	log  []string
}

func testConfig(dir, payload string) containerd.Config {
	return containerd.Config{
		Layout:              layout.Layout{Data: filepath.Join(dir, "data"), Run: "/run/skiff", Config: filepath.Join(dir, "etc")},
		RuncPath:            filepath.Join(payload, "runc"),
		ShimPath:            filepath.Join(payload, "containerd-shim-runc-v2"),
		CNIBinDirs:          []string{filepath.Join(payload, "cni"), "/opt/cni/bin"},
		PauseImage:          pauseImage,
		RestrictOOMScoreAdj: true,
	}
}

// startDaemon returns when containerd is ready, or with its error.
func startDaemon(t *testing.T, cfg containerd.Config) (*daemon, error) {
	t.Helper()
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cmd: exec.Command("/proc/self/exe"), lines: make(chan string)}
	d.cmd.Env = append(os.Environ(), daemonVariable+"="+string(encoded),
		"PATH="+cfg.Layout.Helpers()+":"+os.Getenv("PATH"))
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = os.Stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go d.read(out)
	for line := range d.lines {
		d.log = append(d.log, line)
		fmt.Println(line)
		if ms, ok := strings.CutPrefix(line, "ready "); ok {
			n, _ := strconv.Atoi(ms)
			d.took = time.Duration(n) * time.Millisecond
			go func() {
				for line := range d.lines {
					fmt.Println(line)
				}
			}()
			return d, nil
		}
		if reason, ok := strings.CutPrefix(line, "failed: "); ok {
			_ = d.cmd.Wait()
			return nil, fmt.Errorf("%s", reason)
		}
	}
	return nil, fmt.Errorf("containerd ended: %v %s", d.cmd.Wait(), strings.Join(d.log, "\n"))
}

func (d *daemon) read(out io.Reader) {
	defer close(d.lines)
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		d.lines <- scanner.Text()
	}
}

// stop ends it in good order and says how long that took.
func (d *daemon) stop(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("containerd stopped with an error: %v", err)
	}
	return time.Since(began)
}

// kill is the power cut of a process.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait()
}
