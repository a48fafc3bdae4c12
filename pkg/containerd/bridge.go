package containerd

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

// bridge is the logger that containerd gets. Its messages go on to Skiff's
// logger, and a fatal one ends the component instead of the process.
type bridge struct {
	target *logrus.Entry
	// fatal gets the reason of every message at fatal level. It is buffered,
	// the first reason is the one that counts.
	fatal chan error
}

func newBridge(target *logrus.Entry) *bridge {
	return &bridge{target: target, fatal: make(chan error, 1)}
}

// entry is to be used in containerd's context and as its package-wide logger.
func (b *bridge) entry() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetFormatter(silentFormatter{})
	logger.SetLevel(b.level())
	logger.AddHook(b)
	logger.ExitFunc = func(int) {
		// The caller expects not to get control back. Ending its goroutine
		// keeps that promise; Run hears of the reason by the channel.
		runtime.Goexit()
	}
	return logrus.NewEntry(logger)
}

// level is one step less than Skiff's own: containerd tells at info level of
// every plugin it loads and of every request it gets. Staying below info also
// keeps the CRI from raising klog's verbosity to 2 for the whole process.
func (b *bridge) level() logrus.Level {
	if b.target.Logger.IsLevelEnabled(logrus.TraceLevel) {
		return logrus.DebugLevel
	}
	return logrus.WarnLevel
}

// Levels implements logrus.Hook.
func (b *bridge) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (b *bridge) Fire(e *logrus.Entry) error {
	level := e.Level
	if level <= logrus.FatalLevel {
		b.fail(e)
		level = logrus.ErrorLevel
	}
	if level == logrus.InfoLevel || slices.ContainsFunc(usual[:], func(u string) bool { return strings.HasPrefix(e.Message, u) }) {
		level = logrus.DebugLevel
	}
	b.target.WithFields(e.Data).Log(level, e.Message)
	return nil
}

// usual are warnings and errors of every start: there is no CNI configuration
// yet, and hardly any file system has fs-verity.
var usual = [...]string{
	"failed check for fsverity support",
	"failed to load cni during init",
}

func (b *bridge) fail(e *logrus.Entry) {
	reason := errors.New(e.Message)
	if err, ok := e.Data[logrus.ErrorKey].(error); ok {
		reason = fmt.Errorf("%s: %w", e.Message, err)
	}
	select {
	case b.fatal <- reason:
	default:
	}
}

// silentFormatter spares the work of formatting what is discarded.
type silentFormatter struct{}

func (silentFormatter) Format(*logrus.Entry) ([]byte, error) { return nil, nil }
