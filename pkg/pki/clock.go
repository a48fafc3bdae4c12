package pki

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// firstPlausible is before the first line of this program was written. A clock
// that says earlier belongs to a device without a battery that has not heard
// from a time server yet, and a CA made by it would be born in 1970.
var firstPlausible = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// ClockError says that the clock is behind, so that certificates made now
// would be wrong and those that exist are not valid yet.
type ClockError struct {
	Now       time.Time
	NotBefore time.Time // the earliest time that the clock could rightly show
	Reason    string    // where NotBefore comes from
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("the clock says %s but must be past %s (%s): set it (date -s, or timedatectl set-ntp true); certificates are of no use before",
		e.Now.UTC().Format(time.RFC3339), e.NotBefore.UTC().Format(time.RFC3339), e.Reason)
}

// CheckClock returns a *ClockError if now is before this program was made or
// before a CA of the layout is valid. Files that are missing or cannot be
// parsed are Ensure's to complain of.
func CheckClock(l layout.Layout, now time.Time) error {
	if now.Before(firstPlausible) {
		return &ClockError{Now: now, NotBefore: firstPlausible, Reason: "this program is newer than that"}
	}
	files := ServerFilesOf(l)
	for _, path := range []string{files.ServerCA.Cert, files.ClientCA.Cert, files.RequestHeaderCA.Cert} {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("comparing the clock with a CA: %w", err)
		}
		certs, err := parseCerts(path, data)
		if err == nil && now.Before(certs[0].NotBefore) {
			return &ClockError{Now: now, NotBefore: certs[0].NotBefore, Reason: path + " is valid from then on"}
		}
	}
	return nil
}

// WaitForClock returns nil as soon as CheckClock has nothing to say. Each time
// that the clock is found to be behind it calls report, and then sleeps until
// someone sets the clock or it gets there by itself.
func WaitForClock(ctx context.Context, l layout.Layout, report func(*ClockError)) error {
	return waitForClock(ctx, l, systemClock{}, report)
}

func waitForClock(ctx context.Context, l layout.Layout, c clock, report func(*ClockError)) error {
	for {
		err := CheckClock(l, c.now())
		var behind *ClockError
		if !errors.As(err, &behind) {
			return err
		}
		report(behind)
		if err := c.waitUntil(ctx, behind.NotBefore); err != nil {
			return err
		}
	}
}
