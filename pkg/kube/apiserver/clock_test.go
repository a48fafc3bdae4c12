package apiserver

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimersInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now() // a whole second
		var ends []time.Duration
		for _, d := range []time.Duration{100 * time.Millisecond, 600 * time.Millisecond, 1100 * time.Millisecond, 1600 * time.Millisecond} {
			time.Sleep(10 * time.Millisecond)
			timer := inStep{}.NewTimer(time.Hour)
			timer.Reset(d)
			<-timer.C()
			ends = append(ends, time.Since(begin))
		}
		want := []time.Duration{110 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		for i := range want {
			if ends[i] != want[i] {
				t.Errorf("timer %d ended after %s, want %s", i, ends[i], want[i])
			}
		}
	})
}
