package logging

import (
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/component"
)

// detailLines bounds how much of a stack, or of a dump of goroutines, is logged.
const detailLines = 120

// Events logs what happens in a component.Group, for component.NewGroup: what
// goes wrong, and what a slow start waits for; the rest are debug messages. The
// first failure writes what is held (see Starting).
func (l *Logs) Events(log *logrus.Entry) func(component.Event) {
	return func(e component.Event) {
		if e.Err != nil {
			l.Failed()
		}
		level := eventLevel(e)
		log.Log(level, e.String())
		if e.Detail == "" {
			return
		}
		lines := strings.Split(e.Detail, "\n")
		for _, line := range lines[:min(len(lines), detailLines)] {
			log.Log(level, "  ", line)
		}
	}
}

func eventLevel(e component.Event) logrus.Level {
	switch {
	case e.Err != nil:
		return logrus.ErrorLevel
	case e.Name == "":
		return logrus.WarnLevel
	}
	return logrus.DebugLevel
}
