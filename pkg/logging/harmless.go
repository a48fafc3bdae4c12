package logging

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
)

// harmless says of lines that upstream logs as warnings or errors that they say
// nothing to whoever runs a cluster. They become debug messages. What is usual
// in a start or stop, but may tell why one fails, does not belong here: see hold.
func harmless(msg string, fields logrus.Fields) bool {
	cause := ""
	if err := fields[logrus.ErrorKey]; err != nil {
		cause = fmt.Sprint(err)
	}
	for _, line := range harmlessLines() {
		if strings.HasPrefix(msg, line.prefix) && strings.Contains(cause, line.cause) {
			return true
		}
	}
	return false
}

// harmlessLine is the beginning of a message, and a part of the error with it.
type harmlessLine struct{ prefix, cause string }

func harmlessLines() []harmlessLine {
	return []harmlessLine{
		// One for each API version that Kubernetes has retired, at each start.
		{"Skipping API ", ""},
		// Controllers see their caches behind what they wrote, and try again:
		// some do so at each change of a Deployment.
		{"Unhandled Error", "is not as new as written version"},
		// A server that joins is asked once a second whether it is ready.
		{"rejecting promote learner", ""},
		// Whoever watched or asked has gone.
		{"Failed to encode watch event", "stream closed"},
		{"failed sending message on channel", "broken pipe"},
		// A pod is looked at a last time while it is being removed.
		{"ContainerStatus for ", "not found"},
		{"ContainerStatus from runtime service failed", "not found"},
		{"failed to read memory cgroup ", "no such file or directory"},
		// What follows a container that could not be started.
		{"failed to delete task", "container not created"},
		{"Failed to pipe std", "reading from a closed fifo"},
		// "Error syncing pod, skipping" says the same once more, and whose it is.
		{"PullImage ", ""},
		{"Failed to pull image", ""},
		{"StartContainer for ", ""},
		{"StartContainer from runtime service failed", ""},
		{"Unhandled Error", " start failed in pod "},
	}
}
