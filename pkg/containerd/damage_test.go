package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// database makes one like containerd's, of some hundred pages.
func database(t *testing.T, root string) string {
	t.Helper()
	file := filepath.Join(root, "io.containerd.metadata.v1.bolt", "meta.db")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		top, err := tx.CreateBucket([]byte("v1"))
		if err != nil {
			return err
		}
		for i := range 2000 {
			b, err := top.CreateBucket(fmt.Appendf(nil, "image-%04d", i))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("labels"), []byte(strings.Repeat("x", 200))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDamagedDatabases(t *testing.T) {
	edit := func(at func(size int64) int64, data string) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte(data), at(info.Size()))
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	truncate := func(keep func(size int64) int64) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, keep(info.Size())); err != nil {
				t.Fatal(err)
			}
		}
	}
	zeros := strings.Repeat("\x00", 8192)
	for name, c := range map[string]struct {
		damage  func(t *testing.T, file string)
		damaged bool
	}{
		"a whole one is accepted":         {func(*testing.T, string) {}, false},
		"an empty one is started afresh":  {truncate(func(int64) int64 { return 0 }), false},
		"one cut in half is found":        {truncate(func(size int64) int64 { return size / 2 }), true},
		"one cut to its head is found":    {truncate(func(int64) int64 { return 8192 }), true},
		"one cut within its head":         {truncate(func(int64) int64 { return 100 }), true},
		"a head of zeros is found":        {edit(func(int64) int64 { return 0 }, zeros), true},
		"text in place of it is found":    {edit(func(int64) int64 { return 0 }, strings.Repeat("hello ", 2000)), true},
		"nonsense in a page is found":     {edit(func(size int64) int64 { return size / 4096 / 4 * 4096 }, strings.Repeat("\xff", 8192)), true},
		"pages lost as zeros are found":   {edit(func(size int64) int64 { return size / 4096 / 4 * 4096 }, zeros), true},
		"damage in the middle of a page ": {edit(func(size int64) int64 { return size/4096/4*4096 + 16 }, strings.Repeat("\xfe", 4000)), true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := database(t, root)
			c.damage(t, file)
			err := checkDatabases(root)
			if !c.damaged {
				if err != nil {
					t.Fatalf("got %v", err)
				}
				return
			}
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.File != file {
				t.Fatalf("got %v, want that %s is damaged", err, file)
			}
			if !strings.Contains(err.Error(), "mv "+root) {
				t.Errorf("the error does not say what mends it: %v", err)
			}
		})
	}
}

func TestADatabaseInUseIsNotCalledDamaged(t *testing.T) {
	root := t.TempDir()
	file := database(t, root)
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = checkDatabases(root)
	var damaged *DamagedError
	if err == nil || errors.As(err, &damaged) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want that it is in use", err)
	}
}
