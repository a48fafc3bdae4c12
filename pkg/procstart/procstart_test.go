package procstart

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestStarted(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	stat := func(ticks int) string {
		return "1234 (a ) b) S" + strings.Repeat(" 0", 18) + fmt.Sprintf(" %d 0 0", ticks)
	}
	for name, c := range map[string]struct {
		stat string
		want time.Duration // before now
	}{
		"the start is the kernel's":                       {stat(9_950), 500 * time.Millisecond},
		"a shell's earlier start is not this program's":   {stat(5_000), 0},
		"a start in the future is not believed":           {stat(10_100), 0},
		"a text that is cut short is not believed":        {"1234 (skiff) S 0", 0},
		"a text without a name in brackets is not either": {"nothing", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := now.Sub(started(now, 100*time.Second, []byte(c.stat))); got != c.want {
				t.Errorf("started %v before now, want %v", got, c.want)
			}
		})
	}
}

func TestTimeIsBeforeNowAndNotLongAgo(t *testing.T) {
	got := Time()
	if age := time.Since(got); age < 0 || age > time.Hour {
		t.Errorf("this test process was started %v ago", age)
	}
}
