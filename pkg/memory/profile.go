package memory

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The profiles, as config.Profiles has them.
const (
	auto     = "auto"
	tiny     = "tiny"
	small    = "small"
	ordinary = "default"
)

// collectors has the settings of each profile but auto. 100 is Go's own. What
// was measured is in docs/adr/0010-memory-after-the-start.md
// and 0018-less-garbage.md.
func collectors() map[string]Collector {
	return map[string]Collector{
		tiny:     {start: 40, steady: 25},
		small:    {start: 40, steady: 50},
		ordinary: {start: 40, steady: 100, rest: 50},
	}
}

// Hosts are sold with a power of two and report somewhat less.
const (
	tinyHost  = 1 << 30
	smallHost = 2 << 30
)

// fitting is the profile for a host with so many bytes.
func fitting(bytes uint64, known bool) string {
	switch {
	case !known || bytes > smallHost:
		return ordinary
	case bytes > tinyHost:
		return small
	default:
		return tiny
	}
}

// available is how much memory the process may use: the host's, or less where
// a cgroup around it says so.
func available(root string) (bytes uint64, known bool) {
	least := uint64(math.MaxUint64)
	if data, err := os.ReadFile(filepath.Join(root, "proc/meminfo")); err == nil {
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
				if kib, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
					least = min(least, kib<<10)
				}
			}
		}
	}
	for _, file := range limitFiles(root) {
		if limit, ok := readLimit(file); ok {
			least = min(least, limit)
		}
	}
	return least, least != math.MaxUint64
}

// limitFiles are the files with the limits of the process' cgroup and of those
// around it, in either version.
func limitFiles(root string) []string {
	data, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(strings.TrimSpace(string(data))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		mount, name := filepath.Join(root, "sys/fs/cgroup"), "memory.max"
		if parts[1] != "" {
			if !strings.Contains(","+parts[1]+",", ",memory,") {
				continue
			}
			mount, name = filepath.Join(mount, "memory"), "memory.limit_in_bytes"
		}
		for dir := filepath.Clean("/" + parts[2]); ; dir = filepath.Dir(dir) {
			files = append(files, filepath.Join(mount, dir, name))
			if dir == "/" {
				break
			}
		}
	}
	return files
}

// readLimit reads one limit; "max", and files that are not there, are none.
// What version 1 says for no limit is larger than any host.
func readLimit(file string) (uint64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil && n > 0
}
