package pki

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the seam between certificates and time.
type clock interface {
	now() time.Time
	// waitUntil returns nil when t has come, when the clock was set, or for no
	// reason; it returns ctx's cause when ctx has ended.
	waitUntil(ctx context.Context, t time.Time) error
}

// systemClock is the host's real-time clock. Go's own timers are no use for
// dates: they do not notice that the clock is set, nor that a device slept.
type systemClock struct{}

// WaitUntil returns nil when t has come, when the clock was set, or for no
// reason; it returns ctx's cause when ctx has ended. Unlike Go's timers it
// notices that the clock is set and that a device slept.
func WaitUntil(ctx context.Context, t time.Time) error { return systemClock{}.waitUntil(ctx, t) }

// maxSleep bounds a wait where the kernel cannot tell us of a set clock.
const maxSleep = 10 * time.Second

// maxPause bounds how late a clock that was set is looked at.
const maxPause = time.Second

func (systemClock) now() time.Time {
	return time.Now().Round(0) // without the monotonic reading, which hides steps
}

func (systemClock) waitUntil(ctx context.Context, t time.Time) error {
	err := timerfdWait(ctx, t)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		// Whoever looks, and waits again, must not do so all the time, should
		// the kernel's idea of the time be another than ours.
		return pause(ctx, min(time.Until(t), maxPause))
	}
	// Sandboxes such as gVisor lack the timer or its flag.
	return pause(ctx, min(time.Until(t), maxSleep))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// timerfdWait blocks without waking up until t by the real-time clock, until
// the clock is set, or until ctx ends.
func timerfdWait(ctx context.Context, t time.Time) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("making a timer: %w", err)
	}
	// A non-blocking descriptor lets the runtime's poller do the waiting.
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	at := unix.NsecToTimespec(max(t.UnixNano(), 1)) // zero would disarm it
	err = unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &unix.ItimerSpec{Value: at}, nil)
	if err != nil {
		return fmt.Errorf("setting a timer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		// Fails only on a closed file, and then nobody reads any more.
		_ = timer.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	_, err = timer.Read(make([]byte, 8))
	// ECANCELED is the kernel's word for "the clock was set".
	if err == nil || errors.Is(err, unix.ECANCELED) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("waiting for a timer: %w", err)
}
