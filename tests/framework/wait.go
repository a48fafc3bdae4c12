package framework

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// permanent marks an error after which trying again is pointless.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent makes Eventually give up at once.
func Permanent(err error) error { return permanent{err} }

// Eventually calls try until it gives no error, for as long as within. It is
// for what offers nothing to wait on: prefer kubectl wait or a watch.
func Eventually(t testing.TB, within time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := poll(ctx, 200*time.Millisecond, try); err != nil {
		t.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

// Consistently calls try for as long as during, and fails at the first error.
func Consistently(t testing.TB, during time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := try(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// poll calls try until it succeeds or ctx ends, and then gives its last error.
func poll(ctx context.Context, every time.Duration, try func() error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if errors.As(err, new(permanent)) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
