package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// filled makes a closed database with some content in dir.
func filled(t *testing.T, dir string) string {
	t.Helper()
	d := start(t, dir)
	for i := range 300 {
		mustCreate(t, d.Client, "/filled/"+strings.Repeat("k", i), strings.Repeat("v", 1000))
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	return d.cfg.Path
}

// tryOpen runs a datastore that is expected to fail and returns its message.
func tryOpen(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := New(Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock"}, quiet()).Run(ctx, cancel)
	if err == nil {
		t.Fatal("it opened")
	}
	return err.Error()
}

func overwrite(t *testing.T, path string, offset int64, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(data), offset); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(data)
	return string(sum[:])
}

func TestADamagedDatabaseIsNamedAndLeftAlone(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
		says   string
	}{
		{"a text file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("hello, this is no database"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "it is not a SQLite database"},
		{"a broken header", func(t *testing.T, path string) { overwrite(t, path, 0, "SQLite formaX 3\x00") }, "it is not a SQLite database"},
		{"a header from elsewhere", func(t *testing.T, path string) { overwrite(t, path, 16, strings.Repeat("\xee", 80)) }, "damaged"},
		{"a file cut short", func(t *testing.T, path string) {
			if err := os.Truncate(path, 8*pageSize); err != nil {
				t.Fatal(err)
			}
		}, "cut short"},
		{"a broken table after an unclean end", func(t *testing.T, path string) {
			overwrite(t, path, 12*pageSize, strings.Repeat("\xee", 4*pageSize))
			overwrite(t, path+"-wal", 0, "left over")
		}, "damaged"},
		{"another program's database", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			c, err := openConn(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.exec(`CREATE TABLE cookies (id INTEGER)`); err != nil {
				t.Fatal(err)
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
		}, "of another program"},
		{"a directory of its name", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"a log without its file", func(t *testing.T, path string) {
			if err := os.Rename(path, path+"-wal"); err != nil {
				t.Fatal(err)
			}
		}, "the file is gone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filled(t, dir)
			test.damage(t, path)
			before, wal := digest(t, path), digest(t, path+"-wal")
			message := tryOpen(t, dir)
			for _, want := range []string{path, test.says, "nothing was changed", "restore a copy"} {
				if !strings.Contains(message, want) {
					t.Errorf("the message does not say %q: %s", want, message)
				}
			}
			if strings.Contains(message, "\n") {
				t.Errorf("the message has several lines: %s", message)
			}
			if digest(t, path) != before || digest(t, path+"-wal") != wal {
				t.Error("the files were changed")
			}
		})
	}
}

func TestADirectoryThatCanNotBeWrittenIsNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	const nobody = 65534
	dir := t.TempDir()
	// The parents made by the testing package are not for others.
	for _, name := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a directory of another user", func(t *testing.T) {
		if message := openAs(t, nobody, dir).Error(); !strings.Contains(message, "no permission") || !strings.Contains(message, dir) {
			t.Error(message)
		}
	})
	t.Run("a file of another user", func(t *testing.T) {
		path := filled(t, dir)
		if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if message := openAs(t, nobody, dir).Error(); !strings.Contains(message, path) || !strings.Contains(message, "no permission") {
			t.Error(message)
		}
	})
	t.Run("a read-only file system", func(t *testing.T) {
		mounted := t.TempDir()
		if err := unix.Mount("none", mounted, "tmpfs", unix.MS_RDONLY, ""); err != nil {
			t.Skipf("can not mount: %v", err)
		}
		defer unix.Unmount(mounted, 0)
		if message := tryOpen(t, mounted); !strings.Contains(message, "read-only") {
			t.Error(message)
		}
	})
}

func TestAFullDiskIsReportedAndSurvived(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("can not mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, dir)
	var full error
	written := 0
	for full == nil && written < 100 {
		if _, full = create(t.Context(), d.Client, "/fill/"+strings.Repeat("x", written), strings.Repeat("v", 200_000)); full == nil {
			written++
		}
	}
	if full == nil || !strings.Contains(full.Error(), "database space exceeded") {
		t.Fatalf("on a full disk, after %d writes: %v", written, full)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, d.Client, "/after", "there is space again")
	r, err := d.Get(t.Context(), "/fill/", withPrefixCount()...)
	if err != nil || int(r.Count) != written {
		t.Errorf("%d keys, want the %d acknowledged ones: %v", r.Count, written, err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestNobodyElseCanReadTheFiles(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	dir := t.TempDir()
	d := start(t, dir)
	mustCreate(t, d.Client, "/secret", "x")
	check := func(t *testing.T, running bool) {
		t.Helper()
		want := map[string]fs.FileMode{"db": 0o700, "db/state.db": 0o600}
		if running {
			want["run"], want["run/kine.sock"] = 0o700, 0o600
			want["db/state.db-wal"] = 0o600
		}
		for name, mode := range want {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			} else if info.Mode().Perm() != mode {
				t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), mode)
			}
		}
	}
	check(t, true)
	// The index of the log would be written to the disk with each commit.
	if _, err := os.Lstat(filepath.Join(dir, "db/state.db-shm")); err == nil {
		t.Error("the index of the write-ahead log is a file")
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	check(t, false)
	for _, name := range []string{"db/state.db-wal", "db/state.db-shm", "run/kine.sock", "run/kine.sock.new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left behind", name)
		}
	}
	t.Run("modes that are too wide are narrowed", func(t *testing.T) {
		for name, mode := range map[string]fs.FileMode{"db": 0o755, "db/state.db": 0o644} {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		start(t, dir)
		check(t, true)
	})
}

func TestADatabaseThatIsInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := start(t, dir)
	mustCreate(t, d.Client, "/still", "served")
	cmd, out := child(t, childOpen, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(said), "another process uses it") {
		t.Errorf("a second process opens it: %s", said)
	}
	mustCreate(t, d.Client, "/goes", "on")
}

func TestTheSocketOfALivingServerIsNotTakenOver(t *testing.T) {
	d := start(t, t.TempDir())
	second := Config{Path: t.TempDir() + "/db/state.db", Socket: d.cfg.Socket}
	if err := New(second, quiet()).Run(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second server on the socket: %v", err)
	}
	mustCreate(t, d.Client, "/still", "served")
}

func TestASecondWriterIsNoticed(t *testing.T) {
	var logged strings.Builder // by kine, which has no other logger
	logrus.SetOutput(&logged)
	defer logrus.SetOutput(os.Stderr)
	dir := t.TempDir()
	d := New(Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock"}, quiet())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- d.Run(t.Context(), func() { close(ready) }) }()
	<-ready
	c := connect(t, d.Endpoint())
	defer c.Close()
	revision := mustCreate(t, c, "/a", "1")
	other, err := openConn(dir + "/db/state.db")
	if err != nil {
		t.Fatal(err)
	}
	err = other.exec(insertSQL, revision+1, "/b", int64(1), int64(0), int64(0), int64(0), int64(0), []byte("x"))
	if err := other.close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := create(t.Context(), c, "/c", "s3cret"); err == nil {
		t.Errorf("the write was acknowledged: %v", r)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "another process has written") {
			t.Errorf("the datastore ended with: %v", err)
		}
	case <-time.After(patience):
		t.Error("the datastore goes on")
	}
	if strings.Contains(logged.String(), "s3cret") {
		t.Errorf("the value is in the log: %s", logged.String())
	}
}
