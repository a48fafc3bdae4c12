package component

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Group starts components as soon as what they depend on is ready, and stops
// them in the reverse order.
//
//   - Start: each component on its own, in parallel; nothing waits for what it
//     does not depend on.
//   - Failure: the first one stops the group and is what Run returns, joined
//     with what goes wrong afterwards.
//   - Stop: a component's ctx ends when all that depend on it have stopped, not
//     before; siblings stop in parallel. Each one is bounded, and so is the
//     whole; what does not stop in time is given up and skipped.
//
// Limits: a panic in a goroutine that a component started cannot be recovered
// and ends the process, and a goroutine that ignores its ctx cannot be killed;
// it lives until the process ends.
//
// Fill a group with Add, then call Run once. All other methods may be called
// at any time from any goroutine.
type Group struct {
	started   time.Time
	observe   func(Event)
	stopLimit time.Duration
	patient   bool // no time is too long to become ready
	ready     chan struct{}
	reports   chan report

	mu      sync.Mutex // guards what follows; only Run's goroutine changes nodes
	nodes   []*node
	history history
}

// node is a component's place in the group.
type node struct {
	component Component
	group     *Group
	needs     []*node // what it depends on
	neededBy  []*node
	cancel    context.CancelCauseFunc
	deadline  time.Time // to be ready, or to have stopped; zero: none

	state        State
	since        time.Time
	startedAfter time.Duration
	readyAfter   time.Duration
	err          error
	detail       string
}

func (n *node) name() string { return n.component.Name() }

// Handle stands for a component that was added to a group. The zero Handle
// stands for one that is switched off; depending on it is depending on nothing.
type Handle struct{ node *node }

// Option changes a setting of a group.
type Option func(*Group)

// DefaultGroupStopTimeout bounds the stop of a whole group. Together with the
// rest of main it has to stay below the 10 s after which container runtimes,
// and people, lose patience.
const DefaultGroupStopTimeout = 9 * time.Second

// WithStopTimeout replaces DefaultGroupStopTimeout.
func WithStopTimeout(d time.Duration) Option {
	return func(g *Group) { g.stopLimit = d }
}

// WithoutReadyTimeout lets every component take any time to become ready, for
// those that wait for other machines.
func WithoutReadyTimeout() Option {
	return func(g *Group) { g.patient = true }
}

// NewGroup makes an empty group. observe is told of every event, in order, one
// call at a time, and may be nil; it must not block or call the group. started
// is when the process started: the zero point of ReadyAfter and StartedAfter.
func NewGroup(observe func(Event), started time.Time, options ...Option) *Group {
	if observe == nil {
		observe = func(Event) {}
	}
	g := &Group{
		started:   started,
		observe:   observe,
		stopLimit: DefaultGroupStopTimeout,
		ready:     make(chan struct{}),
	}
	for _, o := range options {
		o(g)
	}
	return g
}

// Add puts a component into the group, to be started once all of after are
// ready, and stopped before any of them is. It panics on a handle of another
// group: that is a mistake in the wiring, not of a user.
func (g *Group) Add(c Component, after ...Handle) Handle {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := &node{component: c, group: g, state: StatePending}
	for _, h := range after {
		if h.node == nil {
			continue
		}
		if h.node.group != g {
			panic(fmt.Sprintf("component: %s depends on %s, which is in another group", c.Name(), h.node.name()))
		}
		n.needs = append(n.needs, h.node)
		h.node.neededBy = append(h.node.neededBy, n)
	}
	g.nodes = append(g.nodes, n)
	return Handle{n}
}

// Run starts everything and blocks until everything has stopped: after ctx has
// ended, which is a clean stop, or after a component has failed. Components get
// the values of ctx, but not its end. Run is called at most once.
//
// The error is nil after a clean stop; otherwise its first part is what went
// wrong first. The cause of the components' contexts (context.Cause) is that
// failure, or the cause of ctx.
func (g *Group) Run(ctx context.Context) error {
	if err := g.checkNames(); err != nil {
		return err
	}
	g.reports = make(chan report, 2*len(g.nodes)) // each is ready once and returns once
	return (&loop{Group: g, ctx: ctx}).run()
}

func (g *Group) checkNames() error {
	seen := map[string]bool{}
	var errs []error
	for _, n := range g.nodes {
		if seen[n.name()] {
			errs = append(errs, fmt.Errorf("two components are called %s", n.name()))
		}
		seen[n.name()] = true
	}
	return errors.Join(errs...)
}

// Ready is closed when every component is ready. It stays open when the group
// stops before.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Snapshot is the state of every component, in the order of Add.
func (g *Group) Snapshot() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Status, 0, len(g.nodes))
	for _, n := range g.nodes {
		list = append(list, Status{
			Name:         n.name(),
			State:        n.state,
			Since:        n.since,
			WaitingOn:    n.waitingOn(),
			StartedAfter: n.startedAfter,
			ReadyAfter:   n.readyAfter,
			Err:          n.err,
			Detail:       n.detail,
		})
	}
	return list
}

// Events are the last transitions, oldest first.
func (g *Group) Events() []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.history.list()
}

// waitingOn names the dependencies that a pending component still lacks.
func (n *node) waitingOn() []string {
	if n.state != StatePending {
		return nil
	}
	var names []string
	for _, d := range n.needs {
		if d.state != StateReady {
			names = append(names, d.name())
		}
	}
	return names
}

// blocked names all pending components that n keeps from starting, also
// through others, in the order of Add.
func (n *node) blocked() []string {
	behind := map[*node]bool{n: true}
	var names []string
	for _, m := range n.group.nodes { // dependants come after what they need
		for _, d := range m.needs {
			if behind[d] && m.state == StatePending && !behind[m] {
				behind[m] = true
				names = append(names, m.name())
			}
		}
	}
	return names
}

// emit records an event and passes it on.
func (g *Group) emit(e Event) {
	g.mu.Lock()
	g.history.add(e)
	g.mu.Unlock()
	g.observe(e)
}
