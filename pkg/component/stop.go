package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

var errStop = errors.New("asked to stop")

// beginStop turns the group around; the first cause is kept.
func (l *loop) beginStop(cause error) {
	if l.stopping {
		return
	}
	if cause == nil {
		cause = errStop
	}
	now := time.Now()
	l.stopping, l.cause = true, cause
	l.endAt = now.Add(l.stopLimit)
	l.hurryAt = now.Add(max(l.stopLimit-lastSecond, l.stopLimit/2))
}

// advanceStop walks from dependants to dependencies, so one pass settles
// everything that can be settled now.
func (l *loop) advanceStop(now time.Time) {
	if !l.hurryAt.IsZero() && !now.Before(l.hurryAt) {
		l.hurryAt = time.Time{}
	}
	hurry, end := l.hurryAt.IsZero(), !now.Before(l.endAt)
	for i := len(l.nodes) - 1; i >= 0; i-- {
		n := l.nodes[i]
		switch n.state {
		case StatePending:
			l.transition(n, now, StateStopped, nil, "")
		case StateStarting, StateReady:
			if hurry || n.unused() {
				l.stop(n, now)
			}
		case StateStopping:
			if end || !now.Before(n.deadline) {
				l.giveUp(n, now)
			}
		}
	}
}

// unused says that everything that depends on n has stopped.
func (n *node) unused() bool {
	for _, m := range n.neededBy {
		if !m.state.final() {
			return false
		}
	}
	return true
}

func (l *loop) stop(n *node, now time.Time) {
	timeout := DefaultStopTimeout
	if b, ok := n.component.(StopBounder); ok {
		timeout = b.StopTimeout()
	}
	n.deadline = now.Add(timeout)
	l.transition(n, now, StateStopping, n.err, "")
	n.cancel(l.cause)
}

// giveUp leaves a component behind that does not stop.
func (l *loop) giveUp(n *node, now time.Time) {
	n.deadline = time.Time{}
	err := fmt.Errorf("gave up on %s while stopping (waited %s)", n.name(), round(now.Sub(n.since)))
	l.errs = append(l.errs, err)
	l.transition(n, now, StateFailed, err, goroutines(n.name()))
}

// labelKey marks a component's goroutines in profiles and dumps; goroutines
// that they start inherit the mark.
const labelKey = "component"

func label(ctx context.Context, name string) context.Context {
	ctx = pprof.WithLabels(ctx, pprof.Labels(labelKey, name))
	pprof.SetGoroutineLabels(ctx)
	return ctx
}

// goroutinesMax bounds the text that goes to a log and a status.
const goroutinesMax = 32 << 10

// goroutines shows where a component's goroutines are, equal ones counted
// together: a whole Kubernetes has thousands, of which one component's matter.
func goroutines(name string) string {
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return err.Error()
	}
	mark := fmt.Sprintf("%q:%q", labelKey, name)
	var text strings.Builder
	for _, stack := range strings.Split(all.String(), "\n\n") {
		if strings.Contains(stack, mark) && text.Len()+len(stack) < goroutinesMax {
			text.WriteString(stack + "\n\n")
		}
	}
	return strings.TrimSpace(text.String())
}
