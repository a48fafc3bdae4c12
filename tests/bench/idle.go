package main

import (
	"context"
	"fmt"
	"time"
)

// idle watches a system with two idle pods and no other work for o.idle, after
// it was left alone for o.settle. Nothing is asked of the system within the
// window; memory is read at its end.
func idle(ctx context.Context, s system, o options, record recorder) error {
	if err := pass(ctx, s, o.settle); err != nil {
		return err
	}
	asked, err := requests(ctx, s)
	if err != nil {
		return err
	}
	before, err := used(s.Host())
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pass(ctx, s, o.idle); err != nil {
		return err
	}
	after, err := used(s.Host())
	if err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds()
	u := after.minus(before)
	if err := idleMemory(s, record); err != nil {
		return err
	}
	record(value{"idle/cpu", "Idle: CPU", "% of a core", 100 * u.CPU / seconds})
	record(value{"idle/written", "Idle: written to disk", "KiB/s", u.Written / 1024 / seconds})
	record(value{"idle/switches", "Idle: wake-ups", "1/s", u.Switches / seconds})
	now, err := requests(ctx, s)
	if err != nil {
		return err
	}
	recordRequests(asked, now, seconds/60, record)
	return nil
}

func idleMemory(s system, record recorder) error {
	each, all, err := held(s.Host())
	if err != nil {
		return err
	}
	record(value{"idle/anonymous", "Idle: memory, PSS anonymous", "MiB", all.Anonymous})
	record(value{"idle/file", "Idle: memory, PSS file", "MiB", all.File})
	record(value{"idle/memory", "Idle: memory, PSS", "MiB", all.Anonymous + all.File})
	for name, m := range each {
		record(value{"memory/" + name, name + ", anonymous", "MiB", m.Anonymous})
	}
	return nil
}

// pass lets time pass, the only way to see what an idle system does.
func pass(ctx context.Context, s system, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.Failed():
		return fmt.Errorf("watching the idle system: %w", errEnded)
	case <-ctx.Done():
		return ctx.Err()
	}
}
