package memory

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestOnlyWhatIsNeverWrittenIsForgotten(t *testing.T) {
	got, err := programMappings(strings.NewReader(`00400000-0560b000 r-xp 00000000 fe:00 12 /usr/local/bin/skiff
0560b000-0a5f8000 r--p 0520b000 fe:00 12 /usr/local/bin/skiff
0a5f8000-0aa1c000 rw-p 0a1f8000 fe:00 12 /usr/local/bin/skiff
0aa1c000-0aacb000 rw-p 00000000 00:00 0
7f1c00000000-7f1c00021000 r--p 00000000 fe:00 13 /var/lib/skiff/server/db/state.db
7f1c00021000-7f1c04000000 ---p 00000000 00:00 0
7ffd58bd6000-7ffd58bda000 r--p 00000000 00:00 0 [vvar]
`), "/usr/local/bin/skiff")
	if want := []mapping{{0x400000, 0x560b000}, {0x560b000, 0xa5f8000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
}

func TestTheProgramIsForgottenAndGoesOn(t *testing.T) {
	before := resident(t)
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after >= before/2 {
		t.Errorf("%d KiB of files are resident, %d before", after, before)
	}
}

// resident is how much of the files that the process maps is in memory, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "RssFile: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("the kernel does not tell")
	return 0
}
