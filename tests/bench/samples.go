package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// How often a system is looked at: a look at a large process takes the kernel
// some milliseconds, for which another processor or none is taken from it.
const (
	sampleInterval = time.Second
	finerInterval  = 250 * time.Millisecond // in phases of a few seconds
)

// sample is a look at all processes of a system.
type sample struct {
	At time.Duration // since the phase's begin
	memory
	CPU float64 // % of a core, since the look before
}

// phase is what was seen during one step.
type phase struct {
	Name    string
	Samples []sample
}

// sampler looks at a system until it is closed. Its methods are called from
// one goroutine.
type sampler struct {
	host *framework.Host
	stop chan struct{} // ends the phase
	done sync.WaitGroup

	// Those are the running goroutine's while a phase is under way.
	phases []phase
	spent  map[int]float64 // CPU time in seconds of each process
	at     time.Time       // of the last look
	err    error
}

func newSampler(h *framework.Host) *sampler { return &sampler{host: h} }

// begin ends the phase before and starts one.
func (s *sampler) begin(name string, every time.Duration) {
	s.end()
	s.phases = append(s.phases, phase{Name: name})
	s.stop = make(chan struct{})
	stop := s.stop
	s.done.Go(func() { s.watch(&s.phases[len(s.phases)-1], every, stop) })
}

// end ends the phase.
func (s *sampler) end() {
	if s.stop != nil {
		close(s.stop)
		s.done.Wait()
		s.stop = nil
	}
}

func (s *sampler) watch(p *phase, every time.Duration, stop <-chan struct{}) {
	begin := time.Now()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
		look, err := s.look(begin)
		if err != nil {
			s.err = err
			return
		}
		p.Samples = append(p.Samples, look)
	}
}

// look reads memory and CPU time. What a process spent between the last look
// and its end is not known.
func (s *sampler) look(begin time.Time) (sample, error) {
	all, err := processes(s.host)
	if err != nil {
		return sample{}, err
	}
	now := time.Now()
	spent, more := map[int]float64{}, 0.0
	for pid := range all {
		stat, err := readStat(pid)
		if err != nil {
			continue // it has just ended
		}
		spent[pid] = stat.cpu
		more += stat.cpu - s.spent[pid]
	}
	since := s.at
	if since.IsZero() {
		since = begin
	}
	_, m, err := held(s.host)
	look := sample{At: now.Sub(begin), memory: m, CPU: 100 * max(0, more) / now.Sub(since).Seconds()}
	s.spent, s.at = spent, now
	return look, err
}

// mean is the CPU time of a phase in % of a core.
func (p phase) mean() float64 {
	sum, before := 0.0, time.Duration(0)
	for _, look := range p.Samples {
		sum += look.CPU * (look.At - before).Seconds()
		before = look.At
	}
	if before == 0 {
		return 0
	}
	return sum / before.Seconds()
}

// samplesTable has one line for each look, for whoever wants to draw more.
func samplesTable(all []measured) string {
	var b strings.Builder
	b.WriteString("system,repetition,phase,seconds,anonymous MiB,file MiB,CPU % of a core\n")
	for _, m := range all {
		for _, p := range m.phases {
			for _, look := range p.Samples {
				fmt.Fprintf(&b, "%s,%d,%s,%.2f,%.1f,%.1f,%.1f\n",
					m.system, m.repetition+1, p.Name, look.At.Seconds(), look.Anonymous, look.File, look.CPU)
			}
		}
	}
	return b.String()
}
