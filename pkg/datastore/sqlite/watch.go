package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/k3s-io/kine/pkg/server"

	"github.com/skiff-k8s/skiff/pkg/internal/kinewatch"
)

// notifyInterval is how often watchers who asked for it are told how far they
// are, so that after a lost connection they need not start from a revision that
// has been compacted. Compactions keep at least 5 minutes.
const notifyInterval = time.Minute

var _ kinewatch.Source = (*backend)(nil)

// Watch implements server.Backend. Nobody calls it but tests: clients are served
// by kinewatch. Every event of the range from revision on arrives exactly once
// and in order; a revision of 0 means from now, a key of "" all.
func (b *backend) Watch(ctx context.Context, key, end string, revision int64) server.WatchResult {
	events := make(chan []*server.Event)
	errc := make(chan error, 1)
	result := server.WatchResult{Events: events, Errorc: errc, CurrentRevision: b.current.Load()}
	if compacted := b.compacted.Load(); revision > 0 && revision <= compacted {
		result.CompactRevision = compacted
		close(events)
		return result
	}
	r := kinewatch.Range{Key: key, End: end}
	if key == "" {
		r.End = "\x00"
	}
	watch := b.hub.Subscribe(r, revision)
	b.loops.Go(func() {
		defer close(events)
		err := watch(ctx, func(batch []*server.Event) error {
			select {
			case events <- batch:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-b.ctx.Done():
				return b.ctx.Err()
			}
		})
		if !errors.Is(err, context.Canceled) {
			errc <- err
		}
	})
	return result
}

// Compacted implements kinewatch.Source.
func (b *backend) Compacted() int64 { return b.compacted.Load() }

// Settle implements kinewatch.Source: what anyone could know of has been
// published before.
func (b *backend) Settle(context.Context) error { return nil }
