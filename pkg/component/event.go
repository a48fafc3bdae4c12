package component

import (
	"fmt"
	"strings"
	"time"
)

// State is where a component is in its life, see Component.
type State string

// The states of a component, in the order in which it goes through them.
// StateStopped and StateFailed are final.
const (
	StatePending  State = "pending"  // waits for what it depends on
	StateStarting State = "starting" // Run was called
	StateReady    State = "ready"    // others may rely on it
	StateStopping State = "stopping" // its ctx has ended
	StateStopped  State = "stopped"  // Run has returned, or was never called
	StateFailed   State = "failed"   // Run returned unasked, or did not return in time
)

func (s State) final() bool { return s == StateStopped || s == StateFailed }

// Event is one transition of one component, or, with an empty Name, a notice
// of the group that says what a slow start waits for.
type Event struct {
	Time      time.Time
	Name      string
	State     State
	Took      time.Duration // spent in the state before this one
	WaitingOn []string      // pending: dependencies that are not ready yet
	Err       error         // why, when something went wrong
	Note      string        // text of a notice
	Detail    string        // stack or goroutines that belong to Err, many lines
}

// String is the event as one line for people, without Detail.
func (e Event) String() string {
	switch {
	case e.Name == "":
		return e.Note
	case e.Err != nil && e.State == StateStopped:
		return fmt.Sprintf("%s stopped with an error: %v", e.Name, e.Err)
	case e.Err != nil:
		return e.Err.Error()
	case len(e.WaitingOn) > 0:
		return fmt.Sprintf("%s waits for %s", e.Name, strings.Join(e.WaitingOn, ", "))
	case e.State == StateReady, e.State == StateStopped && e.Took > 0:
		return fmt.Sprintf("%s is %s after %s", e.Name, e.State, round(e.Took))
	default:
		return fmt.Sprintf("%s is %s", e.Name, e.State)
	}
}

// round keeps what a person wants to know of a duration.
func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

// Status is a component as it is now.
type Status struct {
	Name  string
	State State
	// Since is when it came into State; zero before the group runs.
	Since time.Time
	// WaitingOn names what a pending component waits for.
	WaitingOn []string
	// StartedAfter and ReadyAfter count from the start of the process and are
	// zero until Run was called, or ready.
	StartedAfter time.Duration
	ReadyAfter   time.Duration
	// Err is why it failed, and Detail the stack or goroutines belonging to it.
	Err    error
	Detail string
}

// eventsKept is how many transitions a group remembers: five for each of 50
// components.
const eventsKept = 256

// history is a ring of the last events.
type history struct {
	events []Event
	next   int
}

func (h *history) add(e Event) {
	if len(h.events) < eventsKept {
		h.events = append(h.events, e)
		return
	}
	h.events[h.next] = e
	h.next = (h.next + 1) % eventsKept
}

func (h *history) list() []Event {
	return append(append([]Event(nil), h.events[h.next:]...), h.events[:h.next]...)
}
