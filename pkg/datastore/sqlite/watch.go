package sqlite

import (
	"context"
	"errors"

	"github.com/k3s-io/kine/pkg/server"
)

// Watch implements server.Backend. Nobody calls it but tests: clients are served
// by watchServer and watchCalls. Every event of the range from revision on arrives
// exactly once and in order; a revision of 0 means from now, a key of "" all.
func (b *backend) Watch(ctx context.Context, key, end string, revision int64) server.WatchResult {
	events := make(chan []*server.Event)
	errc := make(chan error, 1)
	result := server.WatchResult{Events: events, Errorc: errc}
	if compacted := b.compacted.Load(); revision > 0 && revision <= compacted {
		result.CompactRevision = compacted
		result.CurrentRevision = b.current.Load()
		close(events)
		return result
	}
	r := keyRange{key, end}
	if key == "" {
		r.end = "\x00"
	}
	w, current := b.hub.subscribe(r, revision)
	result.CurrentRevision = current
	b.loops.Go(func() {
		defer close(events)
		defer b.hub.unsubscribe(w)
		err := b.deliver(ctx, w, func(batch []*server.Event) error {
			select {
			case events <- batch:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-b.ctx.Done():
				return b.ctx.Err()
			}
		}, func() {})
		if !errors.Is(err, context.Canceled) {
			errc <- err
		}
	})
	return result
}

// deliver sends a watcher's events until ctx or the backend ends, or sending
// or reading fails, and returns why. It calls rest when nothing is left to send.
func (b *backend) deliver(ctx context.Context, w *watcher, send func([]*server.Event) error, rest func()) error {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
		for {
			events, from, to := b.hub.take(w)
			if len(events) == 0 && to == 0 {
				break
			}
			var position int64
			if to > 0 {
				var err error
				if events, position, err = b.history(ctx, w.keyRange, from, to); err != nil {
					return err
				}
			}
			if len(events) > 0 {
				if err := send(events); err != nil {
					return err
				}
			}
			b.hub.delivered(w, position)
		}
		rest()
	}
}
