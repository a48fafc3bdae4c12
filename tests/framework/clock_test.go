package framework

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// showClock makes the test's own program one that prints what time it is.
const showClock = "SKIFF_TEST_SHOW_CLOCK"

func TestAProgramsClockIsAnother(t *testing.T) {
	if os.Getenv(showClock) != "" {
		before := time.Now()
		time.Sleep(20 * time.Millisecond)
		os.Stdout.WriteString(strconv.FormatInt(time.Now().Unix(), 10) + " " + time.Since(before).String() + "\n")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []time.Duration{0, 396 * 24 * time.Hour, -365 * 24 * time.Hour} {
		program := filepath.Join(t.TempDir(), "program")
		if err := writeShifted(self, program, by); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), showClock+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", by, err, out)
		}
		var seconds int64
		var slept time.Duration
		for line := range strings.Lines(string(out)) {
			first, second, ok := strings.Cut(strings.TrimSpace(line), " ")
			if n, err := strconv.ParseInt(first, 10, 64); ok && err == nil {
				seconds = n
				if slept, err = time.ParseDuration(second); err != nil {
					t.Fatal(err)
				}
			}
		}
		off := time.Unix(seconds, 0).Sub(time.Now().Add(by))
		if off.Abs() > time.Minute || slept < 20*time.Millisecond || slept > time.Minute {
			t.Errorf("%s: it is off by %s and slept %s", by, off, slept)
		}
	}
}
