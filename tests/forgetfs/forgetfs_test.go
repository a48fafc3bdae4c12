package forgetfs

import (
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// sh has another process use the disk, and cuts the power afterwards. It gives
// the files that are left.
func sh(t *testing.T, d *Disk, luck float64, script string) map[string][]byte {
	t.Helper()
	at := t.TempDir()
	unmount, err := d.Mount(at)
	if err != nil {
		t.Fatal(err)
	}
	// Not by Dir: the new process would go there while this one stands still.
	c := exec.CommandContext(t.Context(), "sh", "-ec", `cd "$0"; `+script, at)
	out, err := c.CombinedOutput()
	if err := unmount(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	d.Cut(luck, rand.New(rand.NewPCG(rand.Uint64(), 0)))
	return d.Files()
}

func TestACutLeavesWhatWasFlushed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a file system of its own")
	}
	d := New()
	for _, tc := range []struct {
		name, script string
		want         map[string]string
	}{
		{"nothing", `mkdir a; echo 1 >a/f`, nil},
		{"a file, its name and its directory", `mkdir a; echo 1 >a/f; sync a/f`, map[string]string{"a/f": "1\n"}},
		{"the old one, as the new one has only the name", `cat a/f; echo 2 >a/new; mv a/new a/f`, map[string]string{"a/f": "1\n"}},
		{"the new one under its first name", `echo 2 >a/new; sync a/new; mv a/new a/f`, map[string]string{"a/f": "1\n", "a/new": "2\n"}},
		{"the new one", `mv a/new a/f; sync a`, map[string]string{"a/f": "2\n"}},
		{"nothing of what was added to it", `echo 3 >>a/f; test $(wc -l <a/f) = 2`, map[string]string{"a/f": "2\n"}},
		{"what was removed", `rm a/f; rmdir a; test ! -e a`, map[string]string{"a/f": "2\n"}},
		{"a link", `chmod 600 a/f; ln -s f a/l; sync a`, map[string]string{"a/f": "2\n"}},
		{"and its target", `test $(cat a/l) = 2; test $(stat -c %a a/f) = 600; rm -r a; sync .`, nil},
	} {
		left := map[string]string{}
		for path, data := range sh(t, d, 0, tc.script) {
			left[path] = string(data)
		}
		if !maps.Equal(left, tc.want) {
			t.Fatalf("%s: left are %v, want %v", tc.name, left, tc.want)
		}
	}
}

// TestARenameIsWhole cuts in the middle of many: a file is always there.
func TestARenameIsWhole(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a file system of its own")
	}
	d := New()
	d.Load(map[string][]byte{"f": []byte("0")})
	seen := map[string]bool{}
	for range 10 {
		files := sh(t, d, 0.5, `for i in 1 2 3 4 5 6 7 8 9; do printf $i >new; sync new; mv new f; done`)
		if len(files["f"]) != 1 {
			t.Fatalf("left are %q", slices.Sorted(maps.Keys(files)))
		}
		seen[string(files["f"])] = true
	}
	t.Logf("left were %v", slices.Sorted(maps.Keys(seen)))
}
