// Package memory settles how Skiff trades memory for processor time: how often
// Go's garbage collector runs, by a profile that fits the host, and that what
// only the start needed goes back to the system. Only pkg/daemon imports it.
package memory

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// settle is for how long after the start caches go on being filled.
const settle = 10 * time.Second

// percentVariable is the variable by which Go's runtime lets users decide; it
// reads it itself, and GOMEMLIMIT, which needs nothing of this package, too.
const percentVariable = "GOGC"

// Process is what this package needs to know of the process and its host.
type Process struct {
	// Lookup finds an environment variable.
	Lookup func(name string) (string, bool)
	// Root is where the host's files are, "/".
	Root string
}

// Collector is how much garbage Go's collector lets pile up, in percent of what
// is in use. The zero Collector leaves it alone.
type Collector struct {
	// start holds while the process starts. What piles up then lies between
	// what is kept, and keeps memory for good; collecting costs processor time.
	start int
	// steady holds from then on.
	steady int
	// rest holds instead of steady while the process has little to do; 0 is for
	// none.
	rest int
}

// Begin sets the garbage collector of the whole process up for the start in a
// profile, one of config.Profiles; auto takes the one that fits the host's
// memory. The variable of Go's runtime wins over the profile. The result is for
// New.
func Begin(profile string, p Process, log *logrus.Entry) Collector {
	if value, told := p.Lookup(percentVariable); told && value != "" {
		log.Debugf("The garbage collector is set up by %s=%s", percentVariable, value)
		return Collector{}
	}
	bytes, known := available(p.Root)
	if profile == auto {
		profile = fitting(bytes, known)
	}
	c := collectors()[profile]
	debug.SetGCPercent(c.start)
	log.Debugf("Memory profile %s on a host with %d MiB: garbage may grow to %d %% of what is in use, %d %% during the start, %d %% at rest (0 is for as ever)", profile, bytes>>20, c.steady, c.start, c.rest)
	return c
}

type trimmer struct {
	ready     <-chan struct{}
	bursts    <-chan struct{}
	collector Collector
	log       *logrus.Entry
}

// New makes the component that ends what only the start needs a few seconds
// after ready is closed, or after many requests that came before: the collector becomes steady and memory goes back to
// the system. From then on the collector keeps pace with the work, which what
// comes from bursts begins. The component is ready at once.
func New(ready, bursts <-chan struct{}, c Collector, log *logrus.Entry) component.Component {
	return &trimmer{ready: ready, bursts: bursts, collector: c, log: log}
}

// Name implements component.Component.
func (t *trimmer) Name() string { return "memory" }

// Run implements component.Component.
func (t *trimmer) Run(ctx context.Context, ready func()) error {
	ready()
	select {
	case <-t.ready:
	case <-ctx.Done():
		return nil
	}
	if !t.awaitRest(ctx) {
		return nil
	}
	t.trim()
	if t.collector.rest > 0 {
		t.collector.keepPace(ctx, t.bursts)
	}
	<-ctx.Done()
	return nil
}

// awaitRest waits until what follows the start is over, and reports whether ctx
// goes on. Who is busy by then has other uses for the processors than collecting
// as often as at the start, or looking for memory to give back.
func (t *trimmer) awaitRest(ctx context.Context) bool {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-t.bursts:
			t.steady()
			timer.Reset(settle)
		case <-ctx.Done():
			return false
		}
	}
}

func (t *trimmer) steady() {
	if t.collector.steady > 0 {
		debug.SetGCPercent(t.collector.steady)
	}
}

func (t *trimmer) trim() {
	begin := time.Now()
	t.steady()
	debug.FreeOSMemory()
	if err := forgetProgram(); err != nil {
		t.log.WithError(err).Debug("The program's pages stay in memory")
	}
	t.log.Debugf("Gave the memory of the start back in %v", time.Since(begin).Round(time.Millisecond))
}
