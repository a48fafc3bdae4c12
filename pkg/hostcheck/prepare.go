package hostcheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"
)

// change is something that the program may do to the host by itself.
type change struct {
	what string // in words, for the log: "load the kernel module x"
	mend string // for an administrator, when it fails
	// fatal says that nothing works without it; else it is worth a warning.
	fatal bool
	// quiet says that it concerns the process alone and is done every time.
	quiet bool
	// done, if not nil, says that it is not needed (any more).
	done func() bool
	do   func(ctx context.Context) error
}

// Prepare does what Inspect found could be mended: it loads modules, sets
// kernel parameters, makes cgroups, shares mounts and raises the process' own
// limits. Each change is logged and recorded in Done. What fails becomes a
// warning or, if nothing works without it, part of the error, a Problems. The
// result replaces the facts that were given.
func Prepare(ctx context.Context, f Facts, log *logrus.Entry) (Facts, error) {
	return prepare(ctx, newSystem(), f, log)
}

func prepare(ctx context.Context, s *system, f Facts, log *logrus.Entry) (Facts, error) {
	pending := f.pending
	f.pending = nil
	f.Done, f.Warnings = slices.Clone(f.Done), slices.Clone(f.Warnings)
	var problems Problems
	for _, c := range pending {
		if c.done != nil && c.done() {
			continue
		}
		if err := c.do(ctx); err != nil {
			finding := Finding{What: fmt.Sprintf("could not %s: %v", c.what, err), Mend: c.mend}
			if c.fatal {
				problems = append(problems, finding)
			} else {
				f.Warnings = append(f.Warnings, finding)
			}
			continue
		}
		if c.quiet {
			continue
		}
		log.Infof("Prepared the host: %s", c.what)
		f.Done = append(f.Done, c.what)
	}
	// The module may just have been loaded.
	f.ConntrackWritable = f.ConntrackWritable || (len(pending) > 0 && s.conntrackWritable())
	if len(problems) > 0 {
		return f, problems
	}
	return f, nil
}
