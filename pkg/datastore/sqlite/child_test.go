package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The test binary runs itself again as one of these children.
const (
	childVar   = "SKIFF_SQLITE_TEST_CHILD"
	childWrite = "write" // write until killed, printing what was acknowledged
	childLazy  = "lazy"  // the same without flushing anything
	childFsync = "fsync" // write once more after the disk has stopped flushing
	childOpen  = "open"  // open and print the error
)

// childMain is a child's main function; it says whether this is a child.
func childMain() bool {
	kind, dir, _ := strings.Cut(os.Getenv(childVar), " ")
	if kind == "" {
		return false
	}
	cfg := Config{Path: dir + "/db/state.db", Socket: dir + "/kine.sock"}
	if kind == childOpen {
		err := New(cfg, quiet()).Run(context.Background(), func() {})
		fmt.Println(err)
		return true
	}
	b, err := newBackend(cfg.Path, 0, new(counters), quiet())
	if err != nil {
		fmt.Println(err)
		return true
	}
	switch kind {
	case childLazy:
		err := b.writer.do(context.Background(), func(db *conn) error { return db.exec("PRAGMA synchronous = OFF") })
		if err != nil {
			panic(err)
		}
		writeForEver(b)
	case childWrite:
		writeForEver(b)
	case childFsync:
		writeWithoutFlush(b)
	}
	return true
}

// child starts this binary as a child on dir.
func child(t *testing.T, kind, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+kind+" "+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// writeForEver creates, changes and deletes keys from several goroutines and
// prints each write after it was acknowledged.
func writeForEver(b *backend) {
	lines := make(chan string)
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				key, value := fmt.Sprintf("/w/%d/%d", worker, i%40), fmt.Sprintf("%d", i)
				o := b.writer.submit(context.Background(), &write{op: opPut, key: key, value: []byte(value)})
				if o.err != nil {
					panic(o.err)
				}
				lines <- fmt.Sprintf("%s %s %d\n", key, value, o.revision)
			}
		}()
	}
	// One write per line: a line that was begun may be cut off by the kill.
	for line := range lines {
		if _, err := os.Stdout.WriteString(line); err != nil {
			return
		}
	}
}

// writeWithoutFlush writes, takes from the process the means to flush anything
// to the disk, and writes again.
func writeWithoutFlush(b *backend) {
	if _, err := b.Create(context.Background(), "/before", []byte("1"), 0); err != nil {
		fmt.Println("before:", err)
		return
	}
	if err := forbidFlush(); err != nil {
		fmt.Println("seccomp:", err)
		return
	}
	_, err := b.Create(context.Background(), "/after", []byte("1"), 0)
	fmt.Println("after:", err)
	select {
	case err := <-b.fatal:
		fmt.Println("fatal:", explain("state.db", err))
	case <-time.After(time.Second):
		fmt.Println("fatal: none")
	}
}

// forbidFlush makes fsync and fdatasync fail with EIO in all threads, as they
// do on a broken disk.
func forbidFlush() error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // seccomp_data.nr
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_FSYNC, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_FDATASYNC, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, 0, len(program))
	for _, i := range program {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return seccomp(filter)
}

func TestNoWriteIsAcknowledgedThatWasNotFlushedToTheDisk(t *testing.T) {
	dir := t.TempDir()
	cmd, out := child(t, childFsync, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !strings.Contains(string(said), "after: rpc error") || !strings.Contains(string(said), "fatal: database state.db: the disk fails") {
		t.Errorf("with a disk that can not flush the child says:\n%s", said)
	}
	d := start(t, dir)
	if r, err := d.Get(t.Context(), "/before"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("the write before: %v %v", r, err)
	}
}

// openAs opens the datastore on dir as another user and returns its error.
func openAs(t *testing.T, uid uint32, dir string) error {
	t.Helper()
	cmd, out := child(t, childOpen, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return errors.New(strings.TrimSpace(string(said)))
}
