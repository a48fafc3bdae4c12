package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file that kine has made and never made smaller may be some hundred times as
// large as what is in it.
func TestAFileOfKineThatIsMostlyEmptyIsMadeSmall(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db", "state.db")
	if err := privateDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	c, err := openConn(path, "journal_mode = WAL", "auto_vacuum = 0", "synchronous = OFF")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(c); err != nil {
		t.Fatal(err)
	}
	for id := range int64(45) {
		if err := c.exec(insertSQL, id+2, fmt.Sprintf("/big/%d", id), int64(1), int64(0), int64(0), int64(0), int64(0), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.exec(`DELETE FROM kine WHERE id BETWEEN 3 AND 44`); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil || before.Size() < 40<<20 {
		t.Fatalf("%v %v", before, err)
	}
	d := start(t, dir)
	after, err := os.Stat(path)
	if err != nil || after.Size() > 8<<20 {
		t.Errorf("%d bytes before and %d after: %v", before.Size(), after.Size(), err)
	}
	if r, err := d.Get(t.Context(), "/big/", withPrefixCount()...); err != nil || r.Count != 3 {
		t.Errorf("%d keys are left of 3: %v", r.Count, err)
	}
	if next := mustCreate(t, d.Client, "/next", ""); next != 48 { // 47 is the health key
		t.Errorf("revision %d follows 47", next)
	}
}

func TestWritersDoNotWaitForReadersWhenTheLogIsMoved(t *testing.T) {
	b := newTestBackend(t)
	for try := range 10 { // a slow machine may take longer than anybody waits for a reader
		if writtenWhileReading(t, b, try) {
			return
		}
	}
	t.Errorf("20 writes took longer than %s each time", quiesceTime)
}

// writtenWhileReading says whether writes were done before somebody stopped to
// wait for a reader.
func writtenWhileReading(t *testing.T, b *backend, try int) bool {
	t.Helper()
	held := <-b.readers // somebody reads for as long as we want
	moved := make(chan error, 1)
	go func() { moved <- b.wal.full() }()
	for deadline := time.Now().Add(patience); len(b.readers) > 0; { // it has taken the others
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the reader")
		}
		<-time.After(time.Millisecond)
	}
	for i := range 20 {
		if _, err := b.Create(t.Context(), fmt.Sprintf("/during/%d/%d", try, i), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	faster := false
	select {
	case err = <-moved:
		b.readers <- held
	default:
		faster = true
		b.readers <- held
		err = <-moved
	}
	if err != nil {
		t.Error(err)
	}
	return faster
}
