package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// step is one part of what is measured of a system: a function in a file of its
// own. Steps follow one another on the same host and leave it as they found it,
// running and with two idle pods.
type step struct {
	name string // for -steps, and for the phases of the graphs
	run  func(ctx context.Context, s system, o options, record recorder) error
	// full leaves the step out of the short form.
	full bool
	// once has it done in the first repetition only.
	once bool
	// brief steps take a few seconds, so that the graphs look at them more often.
	brief bool
}

// steps are all there are, in their order. The first one is always done: the
// others need its cluster.
func steps() []step {
	return []step{
		{name: "start", run: coldStart, brief: true},
		{name: "idle", run: idle},
		{name: "restart", run: restart, brief: true},
		{name: "api", run: apiLoad},
		{name: "watches", run: watchLoad},
		{name: "pods", run: podLoad, full: true},
		{name: "sizes", run: sizes},
		{name: "services", run: services, full: true, once: true},
		{name: "clients", run: clients, full: true, once: true},
		{name: "growth", run: growth, full: true, once: true},
	}
}

// chosen are the steps for a repetition, counted from 0.
func (o options) chosen(repetition int) []step {
	all := steps()
	return slices.DeleteFunc(all, func(s step) bool {
		return s.name != all[0].name && !slices.Contains(o.steps, s.name) || s.once && repetition > 0
	})
}

// stepNames are the steps that are done unless -steps says otherwise.
func stepNames(short bool) []string {
	var names []string
	for _, s := range steps() {
		if !s.full || !short {
			names = append(names, s.name)
		}
	}
	return names
}

// checkSteps refuses names that no step has.
func checkSteps(names []string) error {
	known := stepNames(false)
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no step %q for -steps: the steps are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// runStep runs one while the sampler looks on, and says how long it took.
func runStep(ctx context.Context, step step, s system, o options, look *sampler, record recorder) error {
	fmt.Printf(" %s\n", step.name)
	begin := time.Now()
	every := sampleInterval
	if step.brief {
		every = finerInterval
	}
	look.begin(step.name, every)
	defer look.end()
	if err := step.run(ctx, s, o, record); err != nil {
		return stated(s, fmt.Errorf("step %s: %w", step.name, err))
	}
	fmt.Printf(" %s took %.1f s\n", step.name, time.Since(begin).Seconds())
	return nil
}
