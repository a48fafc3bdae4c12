package logging

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// reopenAfter is how often a write looks whether the log file is still the one
// at its path. Nothing looks while nothing is written.
const reopenAfter = time.Second

// output is where all loggers write, one line per call. A log file that was
// renamed or removed by log rotation is opened anew; one that was truncated is
// appended to.
type output struct {
	mu      sync.Mutex
	stderr  io.Writer // nil: the file alone
	path    string
	file    *os.File
	checked time.Time
}

func newOutput(cfg config.Logging, stderr io.Writer) (*output, error) {
	o := &output{path: cfg.File}
	if cfg.File == "" {
		o.stderr = stderr
		return o, nil
	}
	if cfg.AlsoToStderr {
		o.stderr = stderr
	}
	if err := o.open(); err != nil {
		return nil, fmt.Errorf("opening the log file: %w", err)
	}
	return o, nil
}

func (o *output) open() error {
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	o.file, o.checked = f, time.Now()
	return nil
}

// Write writes one line to everything there is, even if a part of it fails.
func (o *output) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	if o.stderr != nil {
		_, err := o.stderr.Write(p)
		errs = append(errs, err)
	}
	if o.file != nil {
		errs = append(errs, o.rotate())
		_, err := o.file.Write(p)
		errs = append(errs, err)
	}
	return len(p), errors.Join(errs...)
}

// rotate opens the path anew when the open file is no longer there. When that
// fails, the old file goes on being written.
func (o *output) rotate() error {
	if time.Since(o.checked) < reopenAfter {
		return nil
	}
	o.checked = time.Now()
	have, err := o.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(o.path); err == nil && os.SameFile(have, there) {
		return nil
	}
	old := o.file
	if err := o.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the file, if there is one.
func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	o.file = nil
	return err
}
