// Package status tells what the process is doing: a component that answers on
// a Unix socket, the client for it, and how an answer looks on a terminal.
// Wiring packages and the status command import it; it imports component and
// no other component.
package status

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Seconds is a duration as scripts like it: a number, in JSON rounded to
// thousandths.
type Seconds float64

// MarshalJSON is part of json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(math.Round(float64(s)*1000) / 1000)
}

func (s Seconds) duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Report is the answer to "what is skiff doing". Its JSON form is an interface
// for scripts: fields are added, not changed.
type Report struct {
	Version       string    `json:"version"`
	Kubernetes    string    `json:"kubernetes"`
	Role          string    `json:"role"` // "server" or "agent"
	PID           int       `json:"pid"`
	NodeName      string    `json:"nodeName,omitempty"`
	Started       time.Time `json:"started"`
	UptimeSeconds Seconds   `json:"uptimeSeconds"`
	// Ready says that every component is ready.
	Ready bool `json:"ready"`
	// Both count from the start of the process and are left out before.
	APIReadyAfterSeconds  Seconds     `json:"apiReadyAfterSeconds,omitempty"`
	NodeReadyAfterSeconds Seconds     `json:"nodeReadyAfterSeconds,omitempty"`
	Components            []Component `json:"components"`
	// Events are the last transitions of components, oldest first.
	Events []Event `json:"events"`
}

// Component is one part of the process.
type Component struct {
	Name                string    `json:"name"`
	State               string    `json:"state"`
	Since               time.Time `json:"since,omitzero"`
	WaitingOn           []string  `json:"waitingOn,omitempty"`
	StartedAfterSeconds Seconds   `json:"startedAfterSeconds,omitempty"`
	ReadyAfterSeconds   Seconds   `json:"readyAfterSeconds,omitempty"`
	Error               string    `json:"error,omitempty"`
	Detail              string    `json:"detail,omitempty"`
}

// Event is one transition of a component.
type Event struct {
	Time      time.Time `json:"time"`
	Component string    `json:"component,omitempty"`
	State     string    `json:"state"`
	Message   string    `json:"message"`
	WaitingOn []string  `json:"waitingOn,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// Info is what a report says that no component knows.
type Info struct {
	Version    string
	Kubernetes string
	Role       string
	NodeName   string
	Started    time.Time
	// APIComponent and NodeComponent name the components whose readiness is
	// that of the API and of the Node object; "" if there is none.
	APIComponent  string
	NodeComponent string
}

// Group is what Collect reads; *component.Group is one.
type Group interface {
	Snapshot() []component.Status
	Events() []component.Event
}

// Collect makes a report of a group as it is now.
func Collect(info Info, group Group) Report {
	r := Report{
		Version:       info.Version,
		Kubernetes:    info.Kubernetes,
		Role:          info.Role,
		PID:           os.Getpid(),
		NodeName:      info.NodeName,
		Started:       info.Started,
		UptimeSeconds: seconds(time.Since(info.Started)),
		Ready:         true,
		Components:    []Component{},
		Events:        []Event{},
	}
	for _, s := range group.Snapshot() {
		r.Ready = r.Ready && s.State == component.StateReady
		r.Components = append(r.Components, Component{
			Name:                s.Name,
			State:               string(s.State),
			Since:               s.Since,
			WaitingOn:           s.WaitingOn,
			StartedAfterSeconds: seconds(s.StartedAfter),
			ReadyAfterSeconds:   seconds(s.ReadyAfter),
			Error:               text(s.Err),
			Detail:              s.Detail,
		})
		switch s.Name {
		case "":
		case info.APIComponent:
			r.APIReadyAfterSeconds = seconds(s.ReadyAfter)
		case info.NodeComponent:
			r.NodeReadyAfterSeconds = seconds(s.ReadyAfter)
		}
	}
	for _, e := range group.Events() {
		r.Events = append(r.Events, Event{
			Time:      e.Time,
			Component: e.Name,
			State:     string(e.State),
			Message:   e.String(),
			WaitingOn: e.WaitingOn,
			Error:     text(e.Err),
		})
	}
	return r
}

func seconds(d time.Duration) Seconds { return Seconds(d.Seconds()) }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Exit codes of the status command.
const (
	ExitReady    = 0 // everything is ready
	ExitFailed   = 1 // nothing runs, or asking failed
	ExitNotReady = 2 // skiff runs, and something is not ready
)

// NotReadyError says what a running skiff lacks.
type NotReadyError struct{ Reasons []string }

func (e *NotReadyError) Error() string {
	return "skiff is not ready: " + strings.Join(e.Reasons, "; ")
}

// ExitCode is the exit code that goes with the error.
func (e *NotReadyError) ExitCode() int { return ExitNotReady }

// Err is nil if everything is ready, else a *NotReadyError.
func (r Report) Err() error {
	if r.Ready {
		return nil
	}
	var reasons []string
	for _, c := range r.Components {
		switch {
		case c.State == string(component.StateReady):
		case c.Error != "":
			reasons = append(reasons, c.Error)
		case len(c.WaitingOn) > 0:
			reasons = append(reasons, fmt.Sprintf("%s waits for %s", c.Name, strings.Join(c.WaitingOn, ", ")))
		default:
			reasons = append(reasons, fmt.Sprintf("%s is %s", c.Name, c.State))
		}
	}
	return &NotReadyError{Reasons: reasons}
}
