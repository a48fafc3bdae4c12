// Package procstart tells when the process was started, which is earlier than
// main by the time that loading the program and initialising its packages
// takes. It imports nothing of ours; main uses it.
package procstart

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// perSecond is the kernel's USER_HZ, which is 100 on every architecture that
// Go runs Linux on.
const perSecond = 100

// plausible bounds the time between exec and main. A shell that became this
// program by exec leaves its own, much earlier start behind.
const plausible = 3 * time.Second

// Time is when this process was started, to 10 ms. When the kernel's answer is
// missing or cannot be this program's, it is now.
func Time() time.Time {
	now := time.Now()
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return now
	}
	return started(now, time.Duration(boot.Nano()), data)
}

// started derives the start from now, the time since boot and the text of
// /proc/self/stat.
func started(now time.Time, sinceBoot time.Duration, stat []byte) time.Time {
	// The second field, the name in parentheses, may contain anything.
	at := bytes.LastIndexByte(stat, ')')
	if at < 0 {
		return now
	}
	fields := bytes.Fields(stat[at+1:])
	const startTime = 22 - 3 // proc(5) counts from 1, we from the third
	if len(fields) <= startTime {
		return now
	}
	ticks, err := strconv.ParseInt(string(fields[startTime]), 10, 64)
	if err != nil {
		return now
	}
	age := sinceBoot - time.Duration(ticks)*(time.Second/perSecond)
	if age < 0 || age > plausible {
		return now
	}
	return now.Add(-age)
}
