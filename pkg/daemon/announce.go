package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/logging"
)

// announcer tells people, in a few lines, how far the process is. The details
// are the group's events, which are debug messages, and `skiff status`.
type announcer struct {
	log     *logrus.Entry
	start   time.Time // of the process
	news    func(component.Event) string
	message string // once everything is ready

	// stopping is true from the moment before the first component is told.
	stopping atomic.Bool
}

// observe adds what the announcer wants to know to an observer of the group.
func (a *announcer) observe(next func(component.Event)) func(component.Event) {
	return func(e component.Event) {
		next(e)
		switch {
		case e.State == component.StateStopping:
			a.stopping.Store(true)
		default:
			if text := a.news(e); text != "" {
				a.log.Infof("%s after %s", text, seconds(e.Time.Sub(a.start)))
			}
		}
	}
}

// run runs the group and tells the logs and people when its phases change.
func (a *announcer) run(ctx context.Context, group *component.Group, logs *logging.Logs) (err error) {
	// Logs have to know of the end before any component does.
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var stopped time.Time
	ended := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(ended)
		stopped = time.Now()
		logs.Stopping()
		a.log.Infof("Stopping: %v; containers go on running", context.Cause(ctx))
		stop(context.Cause(ctx))
	})

	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		select {
		case <-group.Ready():
			logs.Started()
			a.log.Infof("Skiff is ready after %s: %s", seconds(time.Since(a.start)), a.message)
		case <-done:
		}
	})
	logs.Starting()
	err = group.Run(running)
	close(done)
	wg.Wait()
	if unwatch() {
		return err
	}
	<-ended
	if err == nil {
		a.log.Infof("Stopped after %s", seconds(time.Since(stopped)))
	}
	return err
}

// seconds is a duration as people like it in a sentence.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
