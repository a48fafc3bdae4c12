package component

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// report is what a component's goroutine tells the loop: that it is ready, or
// that Run has returned.
type report struct {
	node     *node
	at       time.Time
	returned bool
	err      error
	panicked bool
	stack    string
}

// start calls Run in a goroutine of its own.
func (l *loop) start(n *node) {
	// The component must outlive ctx until all that depend on it have stopped.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(l.ctx))
	timeout := DefaultReadyTimeout
	if b, ok := n.component.(ReadyBounder); ok {
		timeout = b.ReadyTimeout()
	}
	now := time.Now()
	n.cancel, n.deadline = cancel, now.Add(timeout)
	if n.group.patient {
		n.deadline = time.Time{}
	}
	l.transition(n, now, StateStarting, nil, "")

	var once sync.Once
	ready := func() {
		once.Do(func() { l.reports <- report{node: n, at: time.Now()} })
	}
	go func() {
		// Goexit, too, runs deferred functions, and leaves this error.
		r := report{node: n, returned: true, err: errGoexit}
		defer func() {
			if v := recover(); v != nil {
				r.err, r.panicked, r.stack = panicError(v), true, string(debug.Stack())
			}
			cancel(nil)
			r.at = time.Now()
			l.reports <- r
		}()
		r.err = n.component.Run(label(ctx, n.name()), ready)
	}()
}

var errGoexit = errors.New("its goroutine was ended by runtime.Goexit")

// panicError is a panic's value as an error of one line.
func panicError(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %s", strings.Join(strings.Fields(fmt.Sprint(v)), " "))
}
