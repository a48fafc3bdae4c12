// Package component holds the life-cycle contract that every long-running part
// of Skiff follows, and the Group that starts and stops parts in dependency
// order. It imports nothing of ours and nothing of Kubernetes; every package
// may import it.
package component

import (
	"context"
	"time"
)

// Component is one long-running part of the process.
//
//	         Run called                ready called
//	pending ------------> starting ------------------> ready
//	                         |   |                       |  |
//	                         |   +-------- ctx ended ----|--+--> stopping -> stopped
//	                         |                           |          |
//	                         | Run returned while its    |          | Run did not
//	                         | ctx was still alive       |          v return in time
//	                         +---------------------------+-----> failed
//
// Run blocks. It calls ready exactly once, from any goroutine, when others may
// rely on the component. It returns only after ctx has ended, and then nil or
// the error that cleaning up gave; an earlier return, with or without an error,
// is a failure of the whole group. Run is called at most once.
type Component interface {
	// Name is a short, stable, lower-case name for people: logs, status, errors.
	Name() string
	// Run does the component's work until ctx ends.
	Run(ctx context.Context, ready func()) error
}

// StopBounder is implemented by components that need another bound than
// DefaultStopTimeout between the end of their ctx and the return of Run.
type StopBounder interface {
	// StopTimeout is the longest time that the group waits for Run to return.
	StopTimeout() time.Duration
}

// ReadyBounder is implemented by components that need another bound than
// DefaultReadyTimeout between the call of Run and the call of ready.
type ReadyBounder interface {
	// ReadyTimeout is the longest time that the group waits for ready.
	ReadyTimeout() time.Duration
}

// Explainer is implemented by components that know why they are not ready yet.
type Explainer interface {
	// Explain is a few words for people, "" when there is nothing to say. It
	// is called from another goroutine than Run and must not block.
	Explain() string
}

// DefaultStopTimeout bounds how long a component may take to stop. The bounds
// of a chain of dependants add up, and a whole stop has to stay below 10 s.
const DefaultStopTimeout = 3 * time.Second

// DefaultReadyTimeout bounds how long a component may take to become ready
// once everything it depends on is ready. Slow and busy devices do get there:
// an emulated processor needs three minutes for what takes three seconds here,
// and a start that is given up begins again from nothing.
const DefaultReadyTimeout = 10 * time.Minute

type function struct {
	name string
	run  func(ctx context.Context, ready func()) error
}

func (f function) Name() string                                { return f.name }
func (f function) Run(ctx context.Context, ready func()) error { return f.run(ctx, ready) }

// Func makes a Component of a function that follows Component.Run's contract.
func Func(name string, run func(ctx context.Context, ready func()) error) Component {
	return function{name: name, run: run}
}
