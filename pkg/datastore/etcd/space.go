package etcd

import (
	"context"
	"errors"
	"time"

	humanize "github.com/dustin/go-humanize"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

const (
	// spaceInterval is how often the space is seen to while the alarm is on.
	spaceInterval = 15 * time.Second
	// roomy is the part of the quota that what is in use may take for the alarm
	// to be lifted.
	roomy = 0.8
	// almost is the part of the quota that the file may take before the log
	// speaks of it.
	almost = 0.9
)

// space sees to it that a database that has reached its quota is not full for
// good: etcd refuses all writes then, those of a compaction, too, until
// somebody compacts, defragments and lifts the alarm. Whoever deletes objects,
// or raises the quota, has done enough here.
type space struct {
	seen   time.Time
	warned bool
}

// startup looks at once, so that a higher quota lifts the alarm.
func (sp *space) startup(ctx context.Context, m *Member, s *etcdserver.EtcdServer) {
	sp.seen = time.Time{}
	sp.look(ctx, m, s)
}

// look is called often; it costs nothing while there is room.
func (sp *space) look(ctx context.Context, m *Member, s *etcdserver.EtcdServer) {
	if time.Since(sp.seen) < spaceInterval {
		return
	}
	sp.seen = time.Now()
	limit := s.Cfg.QuotaBackendBytes
	if limit <= 0 {
		return
	}
	full, own := alarmed(s)
	if !full {
		sp.warn(m, s, limit)
		return
	}
	m.log.Errorf("The datastore has reached its quota of %s: nothing can be created or changed. Delete what is not needed (deleting works), and Skiff makes room within a minute; or restart all servers with a larger quota: --etcd-arg=quota-backend-bytes=%d",
		size(limit), 2*limit)
	if err := m.makeRoom(ctx, s, limit, own); err != nil {
		m.log.WithError(err).Warn("Making room in the datastore failed, will try again")
	}
}

func (sp *space) warn(m *Member, s *etcdserver.EtcdServer, limit int64) {
	near := float64(s.Backend().SizeInUse()) > almost*float64(limit)
	if near && !sp.warned {
		m.log.Warnf("The datastore has %s in use, of a quota of %s: when it is reached, nothing can be created or changed. Delete what is not needed, or restart all servers with a larger quota: --etcd-arg=quota-backend-bytes=%d",
			size(s.Backend().SizeInUse()), size(limit), 2*limit)
	}
	sp.warned = near
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// alarmed says whether any member has no space, and whether this one has not.
func alarmed(s *etcdserver.EtcdServer) (any, own bool) {
	for _, a := range s.Alarms() {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE {
			any = true
			own = own || a.MemberID == uint64(s.MemberID())
		}
	}
	return any, own
}

// makeRoom compacts all history away, has this member's file shrink when that
// is worth it, and lifts this member's own alarm once there is room.
func (m *Member) makeRoom(ctx context.Context, s *etcdserver.EtcdServer, limit int64, own bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := s.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: s.KV().Rev(), Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		return err
	}
	b := s.Backend()
	b.ForceCommit()
	room := int64(roomy * float64(limit))
	if b.SizeInUse() > room {
		return nil
	}
	if b.Size() > room {
		before := b.Size()
		if err := b.Defrag(); err != nil {
			return err
		}
		m.log.Infof("The datastore's file has shrunk from %s to %s", size(before), size(b.Size()))
	}
	if !own || b.Size() > room {
		return nil
	}
	_, err = s.Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: uint64(s.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err == nil {
		m.log.Warn("There is room in the datastore again: it takes writes")
	}
	return err
}
