package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine describes what was measured on.
type machine struct {
	Processor  string  `json:"processor"`
	Processors int     `json:"processors"`
	MemoryGiB  float64 `json:"memoryGiB"`
	Kernel     string  `json:"kernel"`
}

func describe() machine {
	m := machine{
		Processors: runtime.NumCPU(),
		MemoryGiB:  field("/proc/meminfo", "MemTotal:") / 1024 / 1024,
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	data, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(data)) {
		if key, v, found := strings.Cut(l, ":"); found && strings.TrimSpace(key) == "model name" {
			m.Processor = strings.TrimSpace(v)
			break
		}
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%d x %s, %.0f GiB, Linux %s", m.Processors, m.Processor, m.MemoryGiB, m.Kernel)
}
