// Package processors lets the process run on one processor while it has little
// to do, and on all it may use while there is work. At rest a server wakes up a
// hundred times in a second for a few microseconds each; Go then wakes a second
// thread each time, which looks for work and finds none. Only pkg/daemon imports
// it; what it saves is in docs/adr/0017-one-processor-at-rest.md.
package processors

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// variable is the variable of Go's runtime by which users choose a number, which
// then stays as it is.
const variable = "GOMAXPROCS"

// Lookup finds an environment variable.
type Lookup func(name string) (string, bool)

type keeper struct {
	ready  <-chan struct{}
	bursts <-chan struct{}
	lookup Lookup
	log    *logrus.Entry
}

// New makes the component that begins to watch how much the process does once
// ready is closed. It is ready at once. What comes from bursts is work that
// begins, ahead of a look. With GOMAXPROCS in the environment, or when there is
// one processor only, it does nothing.
func New(ready, bursts <-chan struct{}, lookup Lookup, log *logrus.Entry) component.Component {
	return &keeper{ready: ready, bursts: bursts, lookup: lookup, log: log}
}

// Name implements component.Component.
func (k *keeper) Name() string { return "processors" }

// Run implements component.Component.
func (k *keeper) Run(ctx context.Context, ready func()) error {
	ready()
	select {
	case <-k.ready:
	case <-ctx.Done():
		return nil
	}
	if value, told := k.lookup(variable); told && value != "" {
		k.log.Debugf("The number of processors is set up by %s=%s", variable, value)
	} else if runtime.GOMAXPROCS(0) > 1 {
		return k.keep(ctx)
	}
	<-ctx.Done()
	return nil
}

// keep changes the number of processors with the work until ctx ends. The end
// itself is work.
func (k *keeper) keep(ctx context.Context) error {
	defer runtime.SetDefaultGOMAXPROCS()
	var p pace
	at, used, err := now()
	if err != nil {
		return err
	}
	timer := time.NewTimer(p.next())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.bursts:
			if p.work() {
				apply(p.resting)
				k.log.Debug("Many requests: all processors from now on")
				timer.Reset(p.next())
			}
			continue
		case <-timer.C:
		}
		lastAt, lastUsed := at, used
		if at, used, err = now(); err != nil {
			return err
		}
		if p.see(used-lastUsed, at.Sub(lastAt)) {
			apply(p.resting)
			k.log.Debugf("%s used in %v: %d processors from now on", used-lastUsed, at.Sub(lastAt).Round(time.Millisecond), runtime.GOMAXPROCS(0))
		}
		timer.Reset(p.next())
	}
}

// apply sets the number. Both stop the process for well under a millisecond.
func apply(resting bool) {
	if resting {
		runtime.GOMAXPROCS(1)
		return
	}
	// As many as the host and the cgroup's limit give, which may have changed.
	runtime.SetDefaultGOMAXPROCS()
}

// now is the time, and the processor time that the process has used so far.
func now() (at time.Time, used time.Duration, err error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the processor time of the process: %w", err)
	}
	return time.Now(), time.Duration(t.Nano()), nil
}
