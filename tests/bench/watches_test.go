package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAWatchThatTheServerEndsGoesOn(t *testing.T) {
	stream := func(text string) *watchStream {
		return &watchStream{ReadCloser: io.NopCloser(strings.NewReader(text)), frames: bufio.ScanLines}
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := newAudience(2)
	again := func() (*watchStream, error) {
		if a.again.Load() > 1 {
			cancel()
		}
		return stream(watchedName(0) + "\n" + watchedName(1) + "\n"), nil
	}
	if err := a.follow(ctx, stream(watchedName(0)+"\n"), again); !errors.Is(err, errWatchEnded) {
		t.Fatal(err)
	}
	if a.seen[0].Load() != 1 || a.seen[1].Load() != 1 || a.again.Load() != 2 {
		t.Errorf("one watcher has seen the objects %d and %d times in %d more watches", a.seen[0].Load(), a.seen[1].Load(), a.again.Load())
	}
}
