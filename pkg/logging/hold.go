package logging

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// startLimit is how long a start stays silent. One of a first start on
	// a slow machine takes less.
	startLimit = 15 * time.Second
	// stopLimit is the same for a stop. It is less than the bound of a whole
	// stop, so that one who has to end the process by force sees why.
	stopLimit = 5 * time.Second
	// holdLines and holdBytes bound what is held. A healthy start with a
	// hundred pods has less; with more, something is wrong.
	holdLines = 1000
	holdBytes = 512 << 10
)

// phase is what the process is doing, as far as its log is concerned.
type phase int

const (
	running  phase = iota // everything is written at once
	starting              // others' warnings and errors are held
	stopping              // so they are here
	failed                // like running, for good
)

// hold keeps others' warnings and errors back while the process starts and
// stops: a healthy start and a healthy stop have a hundred of them, and nobody
// can tell them from those that matter until it is known how it ended.
type hold struct {
	out    *output
	notice func(text string) // writes a line of our own in front of held ones

	mu    sync.Mutex
	phase phase
	begun int      // phases, so that the timer of an earlier one can tell
	lines [][]byte // formatted, with their own times
	size  int
	timer *time.Timer
}

// take says whether it holds the line; it copies it.
func (h *hold) take(line []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase != starting && h.phase != stopping {
		return false
	}
	h.lines = append(h.lines, bytes.Clone(line))
	h.size += len(line)
	if len(h.lines) >= holdLines || h.size >= holdBytes {
		h.release(running, "There are too many warnings and errors")
	}
	return true
}

func (h *hold) is(p phase) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase == p
}

// enter begins a phase in which lines are held. What is held already stays.
func (h *hold) enter(p phase, limit time.Duration, late string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == failed {
		return
	}
	h.stopTimer()
	h.phase = p
	h.begun++
	begun := h.begun
	h.timer = time.AfterFunc(limit, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.phase == p && h.begun == begun {
			h.release(running, late)
		}
	})
}

// leave ends a phase that went well; if another one has begun, nothing changes.
func (h *hold) leave(p phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == p {
		h.phase = running
		h.drop()
	}
}

// fail writes what is held, and nothing is held any more.
func (h *hold) fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.release(failed, "Something went wrong")
}

// close drops what is still held.
func (h *hold) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = failed
	h.drop()
}

// release writes what is held in front of what is logged from now on; h.mu is
// held. An output that cannot be written to has nobody to be told.
func (h *hold) release(next phase, why string) {
	if len(h.lines) > 0 {
		h.notice(fmt.Sprintf("%s: here are %d lines that were held back, with their own times; most are usual in a start or stop", why, len(h.lines)))
	}
	for _, line := range h.lines {
		_, _ = h.out.Write(line)
	}
	h.phase = next
	h.drop()
}

func (h *hold) drop() {
	h.stopTimer()
	h.lines, h.size = nil, 0
}

func (h *hold) stopTimer() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

// Starting begins the start of the process: warnings and errors of embedded
// projects are held until it is known how the start ends. They are written, in
// order and with their own times, if it fails, if it takes longer than 15 s, if
// there are more than 1000, or if the process ends itself by klog.Fatal, a
// panic or one of Kubernetes' os.Exit. Lines of components whose level is debug
// are never held, nor are those of loggers that For made.
func (l *Logs) Starting() {
	l.hold.enter(starting, startLimit, fmt.Sprintf("The start is not complete after %s", startLimit))
}

// Started ends a start that went well: what is held is dropped.
func (l *Logs) Started() { l.hold.leave(starting) }

// Stopping begins the stop of the process. What it means is what Starting
// means, but for the limit, which is 5 s, and that klog.Fatal is an error like
// others: see globals.OutliveExits. After Failed it means nothing.
func (l *Logs) Stopping() {
	l.hold.enter(stopping, stopLimit, fmt.Sprintf("The stop is not complete after %s", stopLimit))
}

// Failed writes what is held. Everything is written at once from then on.
func (l *Logs) Failed() { l.hold.fail() }

// holds says that the line is held. debugging is to see everything as it comes.
func (l *Logs) holds(line []byte, level, allowed logrus.Level) bool {
	if level > logrus.WarnLevel || allowed > logrus.InfoLevel || l.klogInfo == logrus.InfoLevel {
		return false
	}
	return l.hold.take(line)
}
