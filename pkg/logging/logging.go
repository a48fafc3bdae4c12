// Package logging sets up the one logger of the process and leads what the
// embedded projects log (klog, zap, logrus' and Go's standard loggers, gRPC)
// into it. Command-line and wiring packages import it; components get a
// *logrus.Entry by constructor. It imports config and component, no component
// implementation, and of Kubernetes only klog's interface.
package logging

import (
	"errors"
	"fmt"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// componentField is the field that says which part of the process speaks.
const componentField = "component"

// timeFormat has milliseconds, because a whole start takes two seconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Logs hands out loggers. Its methods may be called from any goroutine.
type Logs struct {
	out       *output
	formatter logrus.Formatter
	loggers   map[logrus.Level]*logrus.Logger // one per level, all with one output
	base      logrus.Level
	levels    map[string]logrus.Level
	klogInfo  logrus.Level
	verbosity int
	origins   *origins
	hold      *hold
}

// New sets up logging to stderr, or to cfg.File, or to both. Nothing that is
// process-wide changes until Install is called. The file is made with mode
// 0600 and appended to.
func New(cfg config.Logging, stderr io.Writer) (*Logs, error) {
	l := &Logs{base: logrus.InfoLevel, klogInfo: logrus.DebugLevel, verbosity: cfg.Verbosity, origins: newOrigins()}
	if cfg.Debug {
		l.base = logrus.DebugLevel
	}
	if cfg.Verbosity > 0 || cfg.VModule != "" {
		l.klogInfo = logrus.InfoLevel // somebody asked for these lines
	}
	var err error
	if l.formatter, err = formatter(cfg.Format); err != nil {
		return nil, err
	}
	if l.levels, err = levels(cfg); err != nil {
		return nil, err
	}
	if l.out, err = newOutput(cfg, stderr); err != nil {
		return nil, err
	}
	l.loggers = map[logrus.Level]*logrus.Logger{}
	for _, level := range logrus.AllLevels {
		logger := logrus.New()
		logger.SetOutput(l.out)
		logger.SetFormatter(l.formatter)
		logger.SetLevel(level)
		l.loggers[level] = logger
	}
	l.hold = &hold{out: l.out, notice: func(text string) { l.For("skiff").Warn(text) }}
	return l, nil
}

func formatter(format string) (logrus.Formatter, error) {
	switch format {
	case "", "text":
		return &logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: timeFormat}, nil
	case "json":
		return &logrus.JSONFormatter{TimestampFormat: timeFormat}, nil
	}
	return nil, fmt.Errorf("log format %q is not known: use text or json", format)
}

// quiet lists projects whose informational messages are written for their own
// daemons: plugins loaded, compactions, raft terms, configurations reloaded.
func quiet() []string { return []string{"containerd", "kine", "etcd", "etcd-client", "grpc", "dns"} }

// levels are those that differ from the base level.
func levels(cfg config.Logging) (map[string]logrus.Level, error) {
	m := map[string]logrus.Level{}
	var errs []error
	for name, text := range cfg.ComponentLevels {
		level, err := logrus.ParseLevel(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("log level %q of %s is not known: use error, warn, info, debug or trace", text, name))
		}
		m[name] = level
	}
	return m, errors.Join(errs...)
}

// For is the logger of a component. Equal names share a level.
func (l *Logs) For(component string) *logrus.Entry {
	level := l.base
	if own, ok := l.levels[component]; ok {
		level = own
	}
	return l.loggers[level].WithField(componentField, component)
}

// foreignLevel is what an embedded project may log at most.
func (l *Logs) foreignLevel(component string) logrus.Level {
	if level, ok := l.levels[component]; ok {
		return level
	}
	if l.base <= logrus.InfoLevel {
		for _, name := range quiet() {
			if name == component {
				return logrus.WarnLevel
			}
		}
	}
	return l.base
}

// Close drops what is still held (see Starting) and closes the log file. What
// is logged afterwards is lost, so it is the last thing that a process does.
func (l *Logs) Close() error {
	l.hold.close()
	return l.out.Close()
}
