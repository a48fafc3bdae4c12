package imageimport

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watcher tells of files that were closed after writing, moved or removed in
// one directory. It uses inotify itself, because the usual library tells of
// every single write to a file of gigabytes but not of its being closed.
type watcher struct {
	file *os.File
}

func watch(dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the images directory (raise it with `sysctl fs.inotify.max_user_instances=512` if there are too many): %w", err)
	}
	// A file in non-blocking mode is read by Go's poller, so that close ends
	// a read.
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify")}
	mask := uint32(unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_ONLYDIR)
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		w.close()
		return nil, fmt.Errorf("watch the images directory %s: %w", dir, err)
	}
	return w, nil
}

func (w *watcher) close() { _ = w.file.Close() }

// run sends to events whenever something happened, and returns when the watcher
// is closed. What happened is found by looking: events may be lost, the
// directory is the truth.
func (w *watcher) run(events chan<- struct{}) error {
	buffer := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buffer); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

// beingWritten says whether someone has the file open for writing, as far as
// its file system can tell.
func beingWritten(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// A read lease is refused while there is a writer. Closing the file gives
	// the lease back.
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return errors.Is(err, unix.EAGAIN)
}
