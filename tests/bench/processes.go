package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// ticksPerSecond is the unit of the times in /proc/PID/stat, which Linux fixes
// at 100 for programs on every architecture.
const ticksPerSecond = 100

// usage is what processes have used since they began.
type usage struct {
	CPU      float64 // seconds, own and of children waited for
	Written  float64 // bytes that they caused to be sent to the disk
	Switches float64 // voluntary context switches of all threads that live
}

// memory is proportional set size in MiB: shared pages are divided among those
// that share them.
type memory struct{ Anonymous, File float64 }

// processes lists the processes of the system on a host, by their number on the
// machine: all in the host's pid namespace but its init, the shims and what
// these have started. Containers are in namespaces of their own. What has been
// forked and is no other program yet has its parent's memory and is left out.
func processes(h *framework.Host) (map[int]string, error) {
	home, err := os.Readlink(namespaceOf(h.PID()))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all, parents := map[int]string{}, map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == h.PID() {
			continue
		}
		if ns, err := os.Readlink(namespaceOf(pid)); err != nil || ns != home {
			continue
		}
		stat, err := readStat(pid)
		if err != nil {
			continue // it has just ended
		}
		all[pid], parents[pid] = stat.name, stat.parent
	}
	for pid := range all {
		if belongsToShim(pid, all, parents) || all[pid] == all[parents[pid]] {
			defer delete(all, pid)
		}
	}
	return all, nil
}

func belongsToShim(pid int, names map[int]string, parents map[int]int) bool {
	for names[pid] != "" {
		if strings.HasPrefix(names[pid], "containerd-shim") {
			return true
		}
		pid = parents[pid]
	}
	return false
}

func namespaceOf(pid int) string { return proc(pid, "ns/pid") }

func proc(pid int, file string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), file)
}

type stat struct {
	name   string
	parent int
	cpu    float64 // seconds
}

// readStat reads /proc/PID/stat, in which the name stands in parentheses and
// may hold anything.
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("reading %s: no name in it", proc(pid, "stat"))
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("reading %s: %d fields", proc(pid, "stat"), len(fields))
	}
	s := stat{name: string(data[open+1 : end])}
	s.parent, _ = strconv.Atoi(fields[1])
	for _, ticks := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseFloat(ticks, 64)
		if err != nil {
			return s, err
		}
		s.cpu += n / ticksPerSecond
	}
	return s, nil
}

// used adds up what the processes of a system have used.
func used(h *framework.Host) (usage, error) {
	all, err := processes(h)
	if err != nil {
		return usage{}, err
	}
	var sum usage
	for pid := range all {
		s, err := readStat(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return sum, err
		}
		sum.CPU += s.cpu
		sum.Written += field(proc(pid, "io"), "write_bytes:")
		threads, _ := filepath.Glob(proc(pid, "task/*/status"))
		for _, t := range threads {
			sum.Switches += field(t, "voluntary_ctxt_switches:")
		}
	}
	return sum, nil
}

func (u usage) minus(o usage) usage {
	return usage{u.CPU - o.CPU, u.Written - o.Written, u.Switches - o.Switches}
}

// held gives the memory of each process by name, and of all.
func held(h *framework.Host) (map[string]memory, memory, error) {
	all, err := processes(h)
	if err != nil {
		return nil, memory{}, err
	}
	var sum memory
	each := map[string]memory{}
	for pid, name := range all {
		file := proc(pid, "smaps_rollup")
		m := memory{
			Anonymous: field(file, "Pss_Anon:") / 1024,
			File:      (field(file, "Pss_File:") + field(file, "Pss_Shmem:")) / 1024,
		}
		e := each[name]
		each[name] = memory{e.Anonymous + m.Anonymous, e.File + m.File}
		sum.Anonymous += m.Anonymous
		sum.File += m.File
	}
	return each, sum, nil
}

// field is the number behind a key in a file of "key: number" lines, or 0.
func field(path, key string) float64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		rest, found := strings.CutPrefix(line, key)
		if fields := strings.Fields(rest); found && len(fields) > 0 {
			n, _ := strconv.ParseFloat(fields[0], 64)
			return n
		}
	}
	return 0
}
