package sqlite

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/k3s-io/kine/pkg/server"

	"github.com/skiff-k8s/skiff/tests/forgetfs"
)

// acknowledged is what clients were told of: key, value, revision.
type acknowledged map[string][2]int64

// writeUntilKilled has a child write in dir, kills it after it has acknowledged
// so many writes, and notes them.
func (a acknowledged) writeUntilKilled(t *testing.T, kind, dir string, writes int) {
	t.Helper()
	cmd, out := child(t, kind, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		var key string
		var value, revision int64
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %d", &key, &value, &revision); err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		if revision > a[key][1] {
			a[key] = [2]int64{value, revision}
		}
		if n == writes {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

// lost opens the database in dir as any start does, and says what is wrong with it.
func (a acknowledged) lost(t *testing.T, dir string) (lost []string) {
	t.Helper()
	b, err := newBackend(filepath.Join(dir, "db", "state.db"), 0, new(counters), quiet())
	if err != nil {
		return []string{err.Error()}
	}
	defer func() {
		if err := b.close(); err != nil {
			lost = append(lost, err.Error())
		}
	}()
	newest, kvs, err := b.List(t.Context(), "/w/", "/w0", 0, 0, false)
	if err != nil {
		return []string{err.Error()}
	}
	stored := map[string]*server.KeyValue{}
	for _, kv := range kvs {
		stored[kv.Key] = kv
	}
	for key, want := range a {
		got := stored[key]
		// Something later may have been committed without an answer.
		if got == nil || got.ModRevision < want[1] || got.ModRevision == want[1] && string(got.Value) != fmt.Sprint(want[0]) {
			lost = append(lost, fmt.Sprintf("%s is %+v, acknowledged was %d at %d", key, got, want[0], want[1]))
		}
		if want[1] > newest {
			lost = append(lost, fmt.Sprintf("revision %d was acknowledged, the newest is %d", want[1], newest))
		}
	}
	return lost
}

func TestEveryAcknowledgedWriteOutlivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := acknowledged{}
	for round := range 100 {
		told.writeUntilKilled(t, childWrite, dir, 1+rand.IntN(400))
		if lost := told.lost(t, dir); len(lost) > 0 {
			t.Fatalf("after kill %d: %d are wrong, such as %s", round+1, len(lost), lost[0])
		}
	}
	t.Logf("%d keys checked", len(told))
}

// powerCuts has a child write on a disk that loses what was not flushed, cuts
// the power, and gives what was lost in each of so many rounds, until one lost
// anything.
func powerCuts(t *testing.T, kind string, rounds int) (lost []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a file system of its own")
	}
	disk, told := forgetfs.New(), acknowledged{}
	for round := range rounds {
		at, seed := t.TempDir(), rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		if err := os.Mkdir(filepath.Join(at, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		unmount, err := disk.Mount(filepath.Join(at, "db"))
		if err != nil {
			t.Fatal(err)
		}
		told.writeUntilKilled(t, kind, at, 1+random.IntN(400))
		if err := unmount(); err != nil {
			t.Fatal(err)
		}
		// In every second round nothing is left of what was not flushed, else any
		// part of it.
		disk.Cut(float64(round%2)/2, random)
		plain := t.TempDir()
		writeAll(t, filepath.Join(plain, "db"), disk.Files())
		if lost := told.lost(t, plain); len(lost) > 0 {
			return append(lost, fmt.Sprintf("in round %d with the seed %d", round, seed))
		}
		disk.Load(readAll(t, filepath.Join(plain, "db")))
	}
	return nil
}

func writeAll(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if filepath.Ext(name) == ".db-shm" { // of no use to a new start
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestEveryAcknowledgedWriteOutlivesAPowerCut(t *testing.T) {
	t.Parallel()
	if lost := powerCuts(t, childWrite, 40); len(lost) > 0 {
		t.Errorf("%d are wrong, such as %s, %s", len(lost)-1, lost[0], lost[len(lost)-1])
	}
}

// A disk that forgot nothing would prove nothing.
func TestAPowerCutTakesWhatWasNotFlushed(t *testing.T) {
	if lost := powerCuts(t, childLazy, 20); len(lost) == 0 {
		t.Error("nothing is lost of what was never flushed")
	}
}
