package proctitle

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const child = "SKIFF_PROCTITLE_CHILD"

// TestMain is also the process that has something to hide.
func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	args := Hide(os.Args, []string{"token", "t"})
	shown, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("%s\n%s", strings.Join(args[1:], " "), strings.ReplaceAll(strings.Trim(string(shown), "\x00"), "\x00", " "))
}

func TestSecretsAreNotInTheProcessList(t *testing.T) {
	for _, args := range [][]string{
		{"agent", "--token", "hunter2", "--server", "https://a"},
		{"agent", "--token=hunter2", "--v", "2"},
		{"agent", "-token=hunter2"},
		{"agent", "-t", "hunter2"},
		{"agent", "--server", "https://a", "--token", "hunter2"},
	} {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got, shown, _ := strings.Cut(string(out), "\n")
		if got != strings.Join(args, " ") {
			t.Errorf("the process got %q of %q", got, args)
		}
		if strings.Contains(shown, "hunter2") || !strings.Contains(shown, "*******") {
			t.Errorf("others see %s", shown)
		}
	}
}

func TestOtherArgumentsStay(t *testing.T) {
	args := []string{"skiff", "agent", "token", "--tokens", "x", "--token"}
	if got := Hide(slices.Clone(args), []string{"token"}); !slices.Equal(got, args) {
		t.Errorf("got %q", got)
	}
}
