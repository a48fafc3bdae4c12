package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skiff-k8s/skiff/pkg/internal/kineapi"
)

// A file system with less space than this is spoken of, one with less than
// that takes no new objects: what is left lets objects be deleted and
// compactions, which free space and need some first, succeed. Small file systems
// are measured by their size.
const (
	lowSpace, lowShare         = 512 << 20, 10
	reservedSpace, reservShare = 32 << 20, 50
	// spaceReminder is the time between two lines of the log about it.
	spaceReminder = time.Hour
)

// space watches over the room on the file system of the database. The writer
// owns it, apart from what is atomic.
type space struct {
	dir  string
	log  *logrus.Entry
	said time.Time
	// unlimited, for tests, refuses nothing.
	unlimited bool

	free  atomic.Uint64
	level atomic.Int32
}

// The levels of a file system.
const (
	roomy  = iota
	low    // the log and a metric say so
	scarce // objects are not created
	barely // nor changed
)

func newSpace(path string, log *logrus.Entry) *space {
	return &space{dir: filepath.Dir(path), log: log}
}

// available is what this process may still use, and the size of all.
func available(dir string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("looking at the file system of %s: %w", dir, err)
	}
	blocks := s.Bavail
	if os.Geteuid() == 0 { // it may use what others may not
		blocks = s.Bfree
	}
	return blocks * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// look is called before each transaction: it costs a microsecond.
func (s *space) look() {
	free, size, err := available(s.dir)
	if err != nil {
		return // writing will tell
	}
	s.free.Store(free)
	before := s.level.Load()
	now := levelOf(free, size)
	s.level.Store(now)
	s.say(before, now, free)
}

func levelOf(free, size uint64) int32 {
	reserve := min(reservedSpace, size/reservShare)
	switch {
	case free < reserve/2:
		return barely
	case free < reserve:
		return scarce
	case free < min(lowSpace, size/lowShare):
		return low
	}
	return roomy
}

func (s *space) say(before, now int32, free uint64) {
	switch {
	case now == roomy && before > roomy:
		s.log.Infof("There is space again for the database: %d MiB on the file system of %s", free>>20, s.dir)
		s.said = time.Time{}
	case now > roomy && (now > max(before, low) || time.Since(s.said) >= spaceReminder):
		s.said = time.Now()
		if now == low {
			s.log.Warnf("The file system of %s has only %d MiB left for the database: free some space before it is full", s.dir, free>>20)
			return
		}
		s.log.Errorf("The file system of %s is almost full, %d KiB are left: objects are not created any more, so that they can still be deleted; free some space", s.dir, free>>10)
	}
}

// refuses says why a write has to wait for more space, nil when it need not.
// What ends objects, keeps nodes alive, or leads to a compaction is always taken.
func (s *space) refuses(op operation, key string) error {
	level := s.level.Load()
	if s.unlimited || level < scarce || op == opDelete || level == scarce && op == opUpdate ||
		strings.HasPrefix(key, "/registry/leases/") || key == kineapi.CompactKeyStored {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "%s: the file system of %s has only %d KiB left: delete objects, or free some space there",
		rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace), s.dir, s.free.Load()>>10)
}
