package notify

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// Source is what there is to tell.
type Source struct {
	// Ready is closed when the whole process is ready.
	Ready <-chan struct{}
	// Status is a line for people, "" for none. Optional.
	Status func() string
	// Healthy is nil as long as the watchdog should be fed. Optional; it must
	// return in less than half of the watchdog's time.
	Healthy func(ctx context.Context) error
}

// While the process starts, the manager is asked every startPing for startGrace
// more, so that a slow disk does not get a start killed that makes progress.
const (
	startPing  = 10 * time.Second
	startGrace = 30 * time.Second
)

// New is the component that keeps the service manager informed: the status and
// more time while starting, READY=1 once, WATCHDOG=1 twice per period while
// healthy, STOPPING=1 at the end. It is ready at once, so that it does not wait
// for itself, and should depend on nothing and have nothing depend on it: then
// it is among the first to learn of a stop. Without a socket it sleeps.
//
// A manager that cannot be reached is worth a warning, not the end.
func New(cfg Config, source Source, log *logrus.Entry) component.Component {
	n := &notifier{cfg: cfg, source: source, log: log}
	return component.Func("notify", n.run)
}

type notifier struct {
	cfg     Config
	source  Source
	log     *logrus.Entry
	failing bool
}

func (n *notifier) run(ctx context.Context, ready func()) error {
	ready()
	if n.cfg.Socket == "" {
		<-ctx.Done()
		return nil
	}
	if n.starting(ctx) {
		n.send(append(n.status(), "READY=1")...)
		n.watch(ctx)
	}
	n.send("STOPPING=1", status("stopping"))
	return nil
}

// starting waits until the process is ready, or has to stop.
func (n *notifier) starting(ctx context.Context) bool {
	tick := time.NewTicker(startPing)
	defer tick.Stop()
	for {
		n.send(append(n.status(), extend(startGrace))...)
		select {
		case <-n.source.Ready:
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func (n *notifier) status() []string {
	if n.source.Status == nil {
		return nil
	}
	text := n.source.Status()
	if text == "" {
		return nil
	}
	return []string{status(text)}
}

// watch feeds the watchdog until ctx ends; without one it only waits.
func (n *notifier) watch(ctx context.Context) {
	if n.cfg.Watchdog == 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(n.cfg.Watchdog / 2)
	defer tick.Stop()
	for {
		n.feed(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *notifier) feed(ctx context.Context) {
	if n.source.Healthy != nil {
		ctx, cancel := context.WithTimeout(ctx, n.cfg.Watchdog/2)
		err := n.source.Healthy(ctx)
		cancel()
		if err != nil {
			n.log.WithError(err).Warnf("Not feeding the watchdog: the service manager restarts this process if this lasts %s", n.cfg.Watchdog)
			return
		}
	}
	n.send("WATCHDOG=1")
}

// send logs the first failure of a row.
func (n *notifier) send(assignments ...string) {
	err := n.cfg.send(assignments...)
	if err != nil && !n.failing {
		n.log.WithError(err).Warn("The service manager does not hear from this process")
	}
	n.failing = err != nil
}
