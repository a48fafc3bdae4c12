package logging

import (
	"fmt"
	"log"
	"strings"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/grpclog"
)

// Install leads the process-wide loggers of others here: logrus' standard
// logger (containerd, kine, flannel), Go's (net/http, CoreDNS), and gRPC's.
// klog's state belongs to pkg/kube/globals, which is given KlogSink. Call it
// once, before the first component is made, since gRPC's cannot be changed
// safely afterwards.
func (l *Logs) Install() {
	std := logrus.StandardLogger()
	std.SetOutput(l.out)
	std.SetFormatter(foreignFormatter{l})
	std.SetLevel(l.mostVerbose())

	log.SetFlags(0)
	log.SetPrefix("")
	log.SetOutput(lines{logs: l})

	grpclog.SetLoggerV2(grpcLog{logs: l})
}

func (l *Logs) mostVerbose() logrus.Level {
	level := l.base
	for _, own := range l.levels {
		level = max(level, own)
	}
	return level
}

// foreignFormatter gives lines of a logrus logger a component, and
// drops those that the component's level does not allow, or that are held.
type foreignFormatter struct{ logs *Logs }

// Format is part of logrus.Formatter. The entry is a copy made for this call.
func (f foreignFormatter) Format(e *logrus.Entry) ([]byte, error) {
	component, ok := e.Data[componentField].(string)
	if !ok {
		component = f.logs.origins.find().component
		if component != "" {
			e.Data[componentField] = component
		}
	}
	return f.logs.foreignLine(component, e)
}

// StdLogger is a logger of Go's standard kind, for http.Server.ErrorLog.
func (l *Logs) StdLogger(component string) *log.Logger {
	return log.New(lines{logs: l, component: component}, "", 0)
}

// lines logs what is written to it, one line per call, as log.Logger does.
type lines struct {
	logs      *Logs
	component string // "": found out by the caller
}

// Write is part of io.Writer.
func (w lines) Write(p []byte) (int, error) {
	component := w.component
	if component == "" {
		component = w.logs.origins.find().component
	}
	level, msg := lineLevel(string(p))
	w.logs.foreign(component, level, logrus.Fields{}, msg)
	return len(p), nil
}

// lineLevel tells from the text how bad a line is: Go's standard logger has no
// levels. CoreDNS writes them in front; net/http complains of every port scan.
func lineLevel(line string) (logrus.Level, string) {
	line = trimLine(line)
	prefixes := []struct {
		text  string
		level logrus.Level
	}{
		{"[DEBUG] ", logrus.DebugLevel},
		{"[INFO] ", logrus.InfoLevel},
		{"[WARNING] ", logrus.WarnLevel},
		{"[ERROR] ", logrus.ErrorLevel},
		{"[FATAL] ", logrus.FatalLevel},
		{"[PANIC] ", logrus.PanicLevel},
	}
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(line, p.text); ok {
			return p.level, rest
		}
	}
	switch {
	case strings.HasPrefix(line, "http: TLS handshake error"),
		strings.HasPrefix(line, "http: URL query contains semicolon"):
		return logrus.DebugLevel, line
	case strings.HasPrefix(line, "http: panic serving"):
		return logrus.PanicLevel, line
	case strings.HasPrefix(line, "http: "):
		return logrus.WarnLevel, line
	}
	return logrus.InfoLevel, line
}

func trimLine(s string) string { return strings.TrimRight(s, "\n") }

// grpcLog keeps gRPC's warnings, which are mostly about connections that it
// makes again by itself, to those who debug.
type grpcLog struct{ logs *Logs }

var _ grpclog.LoggerV2 = grpcLog{}

func (g grpcLog) log(level logrus.Level, text string) {
	g.logs.foreign("grpc", level, logrus.Fields{}, trimLine(text))
}

func (g grpcLog) Info(...any)           {}
func (g grpcLog) Infoln(...any)         {}
func (g grpcLog) Infof(string, ...any)  {}
func (g grpcLog) V(int) bool            { return false }
func (g grpcLog) Warning(args ...any)   { g.log(logrus.DebugLevel, fmt.Sprint(args...)) }
func (g grpcLog) Warningln(args ...any) { g.log(logrus.DebugLevel, fmt.Sprintln(args...)) }
func (g grpcLog) Warningf(format string, args ...any) {
	g.log(logrus.DebugLevel, fmt.Sprintf(format, args...))
}
func (g grpcLog) Error(args ...any)   { g.log(logrus.WarnLevel, fmt.Sprint(args...)) }
func (g grpcLog) Errorln(args ...any) { g.log(logrus.WarnLevel, fmt.Sprintln(args...)) }
func (g grpcLog) Errorf(format string, args ...any) {
	g.log(logrus.WarnLevel, fmt.Sprintf(format, args...))
}
func (g grpcLog) Fatal(args ...any)   { g.fatal(fmt.Sprint(args...)) }
func (g grpcLog) Fatalln(args ...any) { g.fatal(fmt.Sprintln(args...)) }
func (g grpcLog) Fatalf(format string, args ...any) {
	g.fatal(fmt.Sprintf(format, args...))
}

// fatal panics where gRPC expects the process to end, for the stack's sake.
func (g grpcLog) fatal(text string) {
	g.log(logrus.FatalLevel, text)
	panic(trimLine(text))
}
