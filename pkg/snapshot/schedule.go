package snapshot

import (
	"context"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

const (
	// looks is how often the clock is looked at, at least: a machine that was
	// suspended, or whose clock was set, does not sleep on.
	looks = 10 * time.Minute
	// A snapshot that failed is tried again after firstRetry, then less and
	// less often.
	firstRetry = time.Minute
	lastRetry  = 30 * time.Minute
)

// CheckSchedule says what is wrong with a cron expression.
func CheckSchedule(text string) error {
	_, err := cron.ParseStandard(text)
	return err
}

// NewSchedule makes the component that makes snapshots at the times of a cron
// expression, in the machine's time zone, and prunes old ones. born is when the
// cluster began: a time since then, or since the last snapshot, that has been
// missed because the machine was off is made up for at once. tell hears of
// failures.
func NewSchedule(k *Keeper, expression string, born time.Time, tell func(context.Context, error), log *logrus.Entry) (component.Component, error) {
	times, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, fmt.Errorf("the schedule of snapshots: %w", err)
	}
	s := &schedule{keeper: k, times: times, born: born, tell: tell, log: log}
	return component.Func("snapshots", func(ctx context.Context, ready func()) error {
		ready()
		s.run(ctx)
		return nil
	}), nil
}

type schedule struct {
	keeper *Keeper
	times  cron.Schedule
	born   time.Time
	tell   func(context.Context, error)
	log    *logrus.Entry
}

func (s *schedule) run(ctx context.Context) {
	for due := s.first(ctx); !due.IsZero(); {
		if !s.sleep(ctx, due) {
			return
		}
		if !s.insist(ctx, due) {
			return
		}
		due = s.times.Next(s.keeper.now())
	}
	<-ctx.Done() // an expression that no date fits
}

// first is when the next snapshot is due, which may be in the past.
func (s *schedule) first(ctx context.Context) time.Time {
	last := s.born
	if all, err := s.keeper.dir.List(ctx); err == nil {
		for _, i := range all {
			if at, ours := ofSeries(i.Name, s.keeper.cfg.Prefix, s.keeper.cfg.About.Node); ours && at.After(last) {
				last = at
			}
		}
	}
	return s.times.Next(last.Local())
}

// sleep waits for a time of the clock; false when ctx ended before.
func (s *schedule) sleep(ctx context.Context, until time.Time) bool {
	for {
		left := until.Sub(s.keeper.now())
		if left <= 0 {
			return ctx.Err() == nil
		}
		if !wait(ctx, min(left, looks)) {
			return false
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// insist makes the snapshot that was due, trying again until it succeeds or the
// next one is due; false when ctx ended.
func (s *schedule) insist(ctx context.Context, due time.Time) bool {
	next := s.times.Next(s.keeper.now())
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := s.once(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		now := s.keeper.now()
		again := now.Add(pause)
		if !next.IsZero() && !again.Before(next) {
			again = next
		}
		s.log.WithError(err).WithField("again", again.Format(time.TimeOnly)).
			Errorf("The snapshot that was due at %s failed", due.Format(time.DateTime))
		s.tell(ctx, err)
		if again.Equal(next) {
			return true
		}
		if !s.sleep(ctx, again) {
			return false
		}
	}
}

func (s *schedule) once(ctx context.Context) error {
	begin := s.keeper.now()
	all, err := s.keeper.Save(ctx, s.keeper.cfg.Prefix, nil)
	for _, i := range all {
		s.log.WithFields(logrus.Fields{"size": i.Size, "took": s.keeper.now().Sub(begin).Round(time.Millisecond)}).
			Infof("Made the snapshot %s", i.Location)
	}
	// Old ones make room even when something is wrong with a place, but never
	// for nothing: a failure to save anything keeps them.
	if len(all) > 0 {
		gone, failed := s.keeper.Prune(ctx, "", -1)
		for _, i := range gone {
			s.log.Infof("Deleted the old snapshot %s", i.Location)
		}
		if err == nil {
			err = failed
		}
	}
	return err
}
