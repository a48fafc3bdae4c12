package processors

import "time"

const (
	// lookAtRest is how long work may wait for a second processor.
	lookAtRest = 200 * time.Millisecond
	// lookAtWork is how often it is seen whether there still is work.
	lookAtWork = time.Second

	// busy, in percent of one processor between two looks, is work. A collection
	// of garbage, every other minute, is somewhat less in a fifth of a second.
	busy = 70
	// quiet is less by far: who works at all wants every processor soon, so
	// that only quietLooks in a row are rest.
	quiet      = 20
	quietLooks = 5
)

// pace decides from what was used of the processors whether the process is at
// rest. The zero pace is at work.
type pace struct {
	resting bool
	// looks is how many looks in a row were quiet.
	looks int
}

// next is the time until the next look.
func (p *pace) next() time.Duration {
	if p.resting {
		return lookAtRest
	}
	return lookAtWork
}

// work ends the rest, and reports whether there was one.
func (p *pace) work() bool {
	rested := p.resting
	p.resting, p.looks = false, 0
	return rested
}

// see takes in what was used since the look before, and reports whether resting
// has changed.
func (p *pace) see(used, passed time.Duration) bool {
	percent := 100 * float64(used) / float64(max(passed, time.Millisecond))
	if p.resting {
		p.resting = percent < busy
		return !p.resting
	}
	if percent >= quiet {
		p.looks = 0
		return false
	}
	if p.looks++; p.looks < quietLooks {
		return false
	}
	p.resting, p.looks = true, 0
	return true
}
