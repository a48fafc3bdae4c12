package main

import (
	"context"
	"time"

	"k8s.io/client-go/rest"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// system is a Kubernetes that is measured: a host with everything installed
// and the image of the test pods at hand.
type system interface {
	// Name is the column in the results.
	Name() string
	// Host is where it runs.
	Host() *framework.Host
	// ServeWith gives the API server of later starts further arguments,
	// "name=value", in place of those of the call before.
	ServeWith(args ...string)
	// Start starts every process and returns at once.
	Start(ctx context.Context) error
	// Stop ends every process but those of pods, and waits for that.
	Stop(ctx context.Context) error
	// Config is how an administrator reaches the API through TLS; it waits
	// for the file that holds it.
	Config(ctx context.Context) (*rest.Config, error)
	// Metrics is what its API server and its datastore count, as Prometheus has it.
	Metrics(ctx context.Context) (string, error)
	// Failed is closed when a process has ended that should not.
	Failed() <-chan struct{}
	// Logs is the end of what the processes have written.
	Logs() string
	// Installed lists the files that make up the system, on the machine.
	Installed() map[string]string
	// Close removes the host.
	Close() error
}

// pollInterval is how often is asked for what cannot be watched: whether a
// port is open, a file is there, the API says that it is ready.
const pollInterval = 10 * time.Millisecond

// until calls try until it succeeds, the system fails or ctx ends.
func until(ctx context.Context, s system, what string, try func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var failed <-chan struct{}
	if s != nil {
		failed = s.Failed()
	}
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return waitError{what, err}
		case <-failed:
			return waitError{what, errEnded}
		case <-ticker.C:
		}
	}
}
