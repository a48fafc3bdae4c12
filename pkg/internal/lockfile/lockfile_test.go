package lockfile

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the test binary be the other process.
func TestMain(m *testing.M) {
	if path := os.Getenv("LOCKFILE_TEST_HOLD"); path != "" {
		hold(path)
	}
	os.Exit(m.Run())
}

func hold(path string) {
	if _, err := Acquire(path); err != nil {
		_, _ = os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends us
	os.Exit(0)
}

func TestAcquire(t *testing.T) {
	t.Run("a second process is told who holds which directory", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, ".lock")
		pid, end := startHolder(t, path)

		_, err := Acquire(path)
		var held *HeldError
		if !errors.As(err, &held) || held.PID != pid || held.Dir != dir {
			t.Fatalf("error is %v, want one that names pid %d and %s", err, pid, dir)
		}
		for _, want := range []string{dir, strconv.Itoa(pid), "--data-dir"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("message %q does not mention %q", err, want)
			}
		}

		end()
		lock, err := Acquire(path)
		if err != nil {
			t.Fatalf("the lock of a killed process is still held: %v", err)
		}
		data, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(data)) != strconv.Itoa(os.Getpid()) {
			t.Errorf("the lock file holds %q (%v), want pid %d", data, err, os.Getpid())
		}
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a released lock can be taken again", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), ".lock")
		for range 2 {
			lock, err := Acquire(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := lock.Release(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a missing directory is named", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "missing")
		_, err := Acquire(filepath.Join(dir, ".lock"))
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir) {
			t.Errorf("error is %v, want one that names %s", err, dir)
		}
	})
}

// startHolder starts a process that holds the lock until end is called.
func startHolder(t *testing.T, path string) (pid int, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LOCKFILE_TEST_HOLD="+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("the other process said %q (%v)", line, err)
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
