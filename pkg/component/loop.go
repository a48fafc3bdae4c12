package component

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// slowStart is how long a group starts before it says what it waits for. It
// says so again after twice that time, four times, and so on.
const slowStart = 10 * time.Second

// lastSecond is the part of the whole stop bound in which order no longer
// counts: what still runs then, the datastore above all, is better stopped out
// of order than not at all.
const lastSecond = time.Second

// loop is one run of a group. One goroutine owns it, and it alone changes the
// states of components, so that transitions have one order.
type loop struct {
	*Group
	ctx      context.Context
	errs     []error
	timer    *time.Timer
	noticeIn time.Duration
	noticeAt time.Time

	stopping bool
	cause    error
	hurryAt  time.Time
	endAt    time.Time
}

func (l *loop) run() error {
	l.timer = time.NewTimer(slowStart)
	defer l.timer.Stop()
	l.noticeIn, l.noticeAt = slowStart, time.Now().Add(slowStart)
	l.announce()

	stop := l.ctx.Done()
	if l.ctx.Err() != nil {
		l.beginStop(context.Cause(l.ctx))
	}
	for l.advance(); !l.finished(); l.advance() {
		l.setTimer()
		select {
		case <-stop:
			stop = nil
			l.beginStop(context.Cause(l.ctx))
		case r := <-l.reports:
			l.handle(r)
		case <-l.timer.C:
			l.checkDeadlines(time.Now())
		}
	}
	return errors.Join(l.errs...)
}

// announce records what each component has to wait for.
func (l *loop) announce() {
	for _, n := range l.nodes {
		if len(n.needs) > 0 {
			l.transition(n, time.Now(), StatePending, nil, "")
		}
	}
	if len(l.nodes) == 0 {
		close(l.ready)
	}
}

// transition is the only place where a component changes its state.
func (l *loop) transition(n *node, at time.Time, state State, err error, detail string) {
	l.mu.Lock()
	var took time.Duration
	if !n.since.IsZero() {
		took = at.Sub(n.since)
	}
	n.state, n.since = state, at
	switch state {
	case StateStarting:
		n.startedAfter = at.Sub(l.started)
	case StateReady:
		n.readyAfter = at.Sub(l.started)
	}
	if err != nil {
		n.err, n.detail = err, detail
	}
	waiting := n.waitingOn()
	l.mu.Unlock()
	l.emit(Event{Time: at, Name: n.name(), State: state, Took: took, WaitingOn: waiting, Err: err, Detail: detail})
}

// advance starts or stops whatever may be started or stopped now.
func (l *loop) advance() {
	if l.stopping {
		l.advanceStop(time.Now())
		return
	}
	for _, n := range l.nodes {
		if n.state == StatePending && len(n.waitingOn()) == 0 {
			l.start(n)
		}
	}
}

func (l *loop) handle(r report) {
	n := r.node
	if r.returned {
		n.deadline = time.Time{}
	}
	switch {
	case n.state.final(): // given up on before it returned
	case !r.returned:
		l.becameReady(n, r.at)
	case n.state != StateStopping:
		err := l.unexpected(r)
		l.transition(n, r.at, StateFailed, err, r.stack)
		l.fail(err)
	default:
		l.stopped(n, r)
	}
}

func (l *loop) becameReady(n *node, at time.Time) {
	if n.state != StateStarting {
		return
	}
	n.deadline = time.Time{}
	l.transition(n, at, StateReady, nil, "")
	for _, m := range l.nodes {
		if m.state != StateReady {
			return
		}
	}
	close(l.ready)
}

// stopped ends a component that was asked to stop.
func (l *loop) stopped(n *node, r report) {
	err := r.err
	if !r.panicked && (errors.Is(err, context.Canceled) || l.cause != nil && errors.Is(err, l.cause)) {
		err = nil // it says that it was asked to stop
	}
	if err != nil {
		err = fmt.Errorf("stopping %s: %w", n.name(), err)
		l.errs = append(l.errs, err)
	}
	l.transition(n, r.at, StateStopped, err, r.stack)
}

// unexpected says how a component ended that nobody had asked to stop.
func (l *loop) unexpected(r report) error {
	if r.err == nil {
		return fmt.Errorf("%s ended although nothing had asked it to stop", r.node.name())
	}
	return fmt.Errorf("%s failed: %w", r.node.name(), r.err)
}

// fail keeps an error and stops the group.
func (l *loop) fail(err error) {
	l.errs = append(l.errs, err)
	l.beginStop(err)
}

func (l *loop) finished() bool {
	if !l.stopping {
		return false
	}
	for _, n := range l.nodes {
		if !n.state.final() {
			return false
		}
	}
	return true
}

// setTimer wakes the loop for the next deadline; a group that is ready has none
// and is not woken.
func (l *loop) setTimer() {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	starting := false
	for _, n := range l.nodes {
		sooner(n.deadline)
		starting = starting || n.state == StateStarting
	}
	if l.stopping {
		sooner(l.hurryAt)
		sooner(l.endAt)
	} else if starting {
		sooner(l.noticeAt)
	}
	l.timer.Stop()
	if !next.IsZero() {
		l.timer.Reset(time.Until(next))
	}
}

func (l *loop) checkDeadlines(now time.Time) {
	if l.stopping {
		return // advanceStop looks at its own
	}
	for _, n := range l.nodes {
		if n.state == StateStarting && !n.deadline.IsZero() && !now.Before(n.deadline) {
			l.notReady(n, now)
		}
	}
	if !l.stopping && !now.Before(l.noticeAt) {
		l.emit(Event{Time: now, State: StateStarting, Note: "waiting for " + strings.Join(l.describe(now), ", ")})
		l.noticeIn *= 2
		l.noticeAt = now.Add(l.noticeIn)
	}
}

// notReady fails the group for a component that takes too long.
func (l *loop) notReady(n *node, now time.Time) {
	text := fmt.Sprintf("%s is not ready after %s", n.name(), round(now.Sub(n.since)))
	if why := explain(n.component); why != "" {
		text += ": " + why
	}
	if blocked := n.blocked(); len(blocked) > 0 {
		text += "; waiting for it: " + strings.Join(blocked, ", ")
	}
	err := errors.New(text)
	l.mu.Lock()
	n.err = err
	l.mu.Unlock()
	l.fail(err)
}

// describe says, per component that is not ready, what there is to wait for.
func (l *loop) describe(now time.Time) []string {
	var starting, pending []string
	for _, n := range l.nodes {
		switch n.state {
		case StateStarting:
			text := fmt.Sprintf("%s (starting for %s", n.name(), now.Sub(n.since).Round(time.Second))
			if why := explain(n.component); why != "" {
				text += ": " + why
			}
			starting = append(starting, text+")")
		case StatePending:
			pending = append(pending, fmt.Sprintf("%s (needs %s)", n.name(), strings.Join(n.waitingOn(), ", ")))
		}
	}
	return append(starting, pending...)
}

func explain(c Component) string {
	if e, ok := c.(Explainer); ok {
		return e.Explain()
	}
	return ""
}
