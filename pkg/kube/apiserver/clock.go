package apiserver

import (
	"time"

	"k8s.io/utils/clock"
)

// inStep is a clock whose longer timers end at whole seconds. Each cache of a
// resource looks every second whether a watcher wants a bookmark; in step, they
// wake the process once instead of once each.
type inStep struct{ clock.RealClock }

// step is what timers of half of it and more are rounded to.
const step = time.Second

// NewTimer implements clock.Clock.
func (c inStep) NewTimer(d time.Duration) clock.Timer {
	return inStepTimer{c.RealClock.NewTimer(aligned(time.Now(), d))}
}

type inStepTimer struct{ clock.Timer }

// Reset implements clock.Timer.
func (t inStepTimer) Reset(d time.Duration) bool {
	return t.Timer.Reset(aligned(time.Now(), d))
}

// aligned is a duration that ends at the whole step next to where d ends.
func aligned(now time.Time, d time.Duration) time.Duration {
	if d < step/2 {
		return d
	}
	end := now.Add(d).Round(step)
	if !end.After(now) {
		end = end.Add(step)
	}
	return end.Sub(now)
}
