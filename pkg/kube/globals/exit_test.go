package globals

import (
	"testing"

	"k8s.io/klog/v2"
)

func TestOutliveExits(t *testing.T) {
	for _, tc := range []struct {
		name     string
		stopping bool
		exits    int
	}{
		{"a process that runs is ended", false, 1},
		{"a process that stops goes on stopping", true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			exit := klog.OsExit
			t.Cleanup(func() { klog.OsExit = exit })
			exits, returned := 0, false
			klog.OsExit = func(int) { exits++ }
			OutliveExits(func() bool { return tc.stopping })
			done := make(chan struct{})
			go func() {
				defer close(done)
				klog.OsExit(255)
				returned = true
			}()
			<-done
			if exits != tc.exits || returned != (tc.exits > 0) {
				t.Errorf("%d exits, and the caller went on: %v", exits, returned)
			}
		})
	}
}
