package logging

import (
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Foreign is a logger for an embedded project that wants one of logrus' kind:
// its lines are treated as those of embedded projects are, see Starting.
func (l *Logs) Foreign(component string) *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(l.out)
	logger.SetFormatter(foreignFormatter{l})
	logger.SetLevel(l.foreignLevel(component))
	return logger.WithField(componentField, component)
}

// foreign logs a line of an embedded project if its component's level allows.
// It takes fields over. A level worse than error says that the process, or a
// goroutine, ends by it.
func (l *Logs) foreign(component string, level logrus.Level, fields logrus.Fields, msg string) {
	if component != "" {
		fields[componentField] = component
	}
	e := &logrus.Entry{Logger: l.loggers[l.base], Data: fields, Time: time.Now(), Level: level, Message: msg}
	// Neither a format that was tried nor an output has anybody to be told.
	if line, _ := l.foreignLine(component, e); len(line) > 0 {
		_, _ = l.out.Write(line)
	}
}

// foreignLine is the entry as it is to be written now, nil for not at all.
func (l *Logs) foreignLine(component string, e *logrus.Entry) ([]byte, error) {
	if e.Level < logrus.ErrorLevel || strings.HasPrefix(e.Message, crash) {
		l.Failed()
		e.Level = logrus.ErrorLevel
	}
	allowed := l.foreignLevel(component)
	if e.Level < logrus.InfoLevel && harmless(e.Message, e.Data) {
		e.Level = logrus.DebugLevel
	}
	if e.Level > allowed {
		return nil, nil
	}
	line, err := l.formatter.Format(e)
	if err != nil || l.holds(line, e.Level, allowed) {
		return nil, err
	}
	return line, nil
}

// crash is how Kubernetes begins to log a panic before it panics again.
const crash = "Observed a panic"
