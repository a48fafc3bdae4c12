package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// load is CPU time in seconds at one moment: of the whole machine, of a host
// with its pods, and of this program.
type load struct {
	at                  time.Time
	machine, host, here float64
}

func lookAtLoad(h *framework.Host) (load, error) {
	l := load{at: time.Now()}
	var err error
	if l.machine, err = machineTime(); err != nil {
		return l, err
	}
	if l.host, err = hostTime(h); err != nil {
		return l, err
	}
	// What this program has started outside of hosts counts when it has ended.
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return l, err
		}
		l.here += seconds(u.Utime) + seconds(u.Stime)
	}
	return l, nil
}

func seconds(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// othersSince is how much of the machine went to what has nothing to do with
// the measurement, in % of a core; with more than a few, times mean little.
func (l load) othersSince(before load) float64 {
	others := (l.machine - before.machine) - (l.host - before.host) - (l.here - before.here)
	return max(0, 100*others/l.at.Sub(before.at).Seconds())
}

// machineTime adds up the first line of /proc/stat but for idle, waiting for
// the disk, and guests, which are in user time already.
func machineTime() (float64, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	sum := 0.0
	for i, word := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return 0, fmt.Errorf("reading /proc/stat: %w", err)
		}
		sum += n / ticksPerSecond
	}
	return sum, nil
}

// hostTime reads the cgroup of the host: version 1, in which the controller may
// share its hierarchy, or version 2.
func hostTime(h *framework.Host) (float64, error) {
	for _, controller := range []string{"cpuacct", "cpu,cpuacct", "cpuacct,cpu"} {
		data, err := os.ReadFile(h.CgroupPath(controller, "cpuacct.usage"))
		if err != nil {
			continue
		}
		ns, err := strconv.ParseFloat(strings.TrimSpace(string(data)), 64)
		return ns / 1e9, err
	}
	path := h.CgroupPath("cpu", "cpu.stat")
	if _, err := os.Stat(path); err != nil {
		return 0, fmt.Errorf("reading the CPU time of host %s: %w", h.ID(), err)
	}
	return field(path, "usage_usec ") / 1e6, nil
}
