package logging

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
)

// KlogSink leads klog into these logs. It is meant for
//
//	klog.SetLogger(logr.New(logs.KlogSink()))
//
// without klog.ContextualLogger, so that klog itself decides by -v and
// -vmodule what is logged, for contextual loggers as well. What gets through is
// logged as follows: errors as errors, also those that end the process
// (klog.Fatal, klog.Exit), warnings as warnings, and information
// as debug messages, or as information when -v or --vmodule was given, since
// components that run for decades on one node say a lot that only matters to
// somebody who is looking for it.
//
// A line that is not shown costs a walk up the stack and no allocation.
func (l *Logs) KlogSink() logr.LogSink { return klogSink{logs: l} }

type klogSink struct {
	logs   *Logs
	name   string
	values []any
}

// Init is part of logr.LogSink.
func (s klogSink) Init(logr.RuntimeInfo) {}

// Enabled is part of logr.LogSink.
func (s klogSink) Enabled(level int) bool {
	return level <= s.logs.verbosity
}

// Info is part of logr.LogSink.
func (s klogSink) Info(_ int, msg string, keysAndValues ...any) {
	from := s.logs.origins.find()
	level := from.severity
	switch {
	case level == 0:
		level = s.logs.klogInfo
	case level == logrus.FatalLevel && s.logs.hold.is(stopping):
		level = logrus.ErrorLevel // an interrupted start, which ends no process
	}
	s.log(from.component, level, nil, msg, keysAndValues)
}

// Error is part of logr.LogSink.
func (s klogSink) Error(err error, msg string, keysAndValues ...any) {
	from := s.logs.origins.find()
	level := logrus.ErrorLevel
	if from.exits {
		level = logrus.FatalLevel
	}
	s.log(from.component, level, err, msg, keysAndValues)
}

func (s klogSink) log(component string, level logrus.Level, err error, msg string, kv []any) {
	if level > s.logs.foreignLevel(component) {
		return
	}
	fields := make(logrus.Fields, len(s.values)/2+len(kv)/2+3)
	addPairs(fields, s.values)
	addPairs(fields, kv)
	if err != nil {
		fields[logrus.ErrorKey] = err.Error()
	}
	if s.name != "" {
		fields["logger"] = s.name
	}
	s.logs.foreign(component, level, fields, trimLine(msg))
}

// WithValues is part of logr.LogSink.
func (s klogSink) WithValues(keysAndValues ...any) logr.LogSink {
	s.values = append(s.values[:len(s.values):len(s.values)], keysAndValues...)
	return s
}

// WithName is part of logr.LogSink.
func (s klogSink) WithName(name string) logr.LogSink {
	if s.name != "" {
		name = s.name + "." + name
	}
	s.name = name
	return s
}

func addPairs(fields logrus.Fields, kv []any) {
	for i := 0; i+1 < len(kv); i += 2 {
		key, ok := kv[i].(string)
		if !ok {
			key = fmt.Sprint(kv[i])
		}
		fields[key] = plain(kv[i+1])
	}
	if len(kv)%2 == 1 {
		fields[fmt.Sprint(kv[len(kv)-1])] = "(missing)"
	}
}

// plain makes something of a value that both formatters show as klog's authors
// meant it, and that cannot fail: fmt catches panics of nil receivers.
func plain(v any) any {
	switch v := v.(type) {
	case string, bool, int, int32, int64, uint, uint32, uint64, float64:
		return v
	case error, fmt.Stringer:
		return fmt.Sprint(v)
	case logr.Marshaler:
		return marshal(v)
	}
	return fmt.Sprintf("%+v", v)
}

func marshal(m logr.Marshaler) (v any) {
	defer func() {
		if r := recover(); r != nil {
			v = fmt.Sprintf("(panic: %v)", r)
		}
	}()
	return fmt.Sprintf("%+v", m.MarshalLog())
}
