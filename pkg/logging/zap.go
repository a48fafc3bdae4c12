package logging

import (
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Zap is a zap logger, as etcd's server and client want one, that logs here.
func (l *Logs) Zap(component string) *zap.Logger {
	return zap.New(zapCore{logs: l, component: component})
}

type zapCore struct {
	logs      *Logs
	component string
	fields    []zapcore.Field
}

var _ zapcore.Core = zapCore{}

// Enabled is part of zapcore.Core.
func (c zapCore) Enabled(level zapcore.Level) bool {
	return zapLevel(level) <= c.logs.foreignLevel(c.component)
}

// With is part of zapcore.Core.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

// Check is part of zapcore.Core.
func (c zapCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write is part of zapcore.Core.
func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	if e.LoggerName != "" {
		enc.Fields["logger"] = e.LoggerName
	}
	c.logs.foreign(c.component, zapLevel(e.Level), enc.Fields, e.Message)
	return nil
}

// Sync is part of zapcore.Core; nothing is buffered.
func (c zapCore) Sync() error { return nil }

// zapLevel is the level that foreign wants: zap itself ends the process after
// a fatal message.
func zapLevel(level zapcore.Level) logrus.Level {
	switch {
	case level < zapcore.InfoLevel:
		return logrus.DebugLevel
	case level == zapcore.InfoLevel:
		return logrus.InfoLevel
	case level == zapcore.WarnLevel:
		return logrus.WarnLevel
	case level == zapcore.ErrorLevel:
		return logrus.ErrorLevel
	}
	return logrus.FatalLevel
}
